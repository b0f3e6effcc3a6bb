/* Writes a certificate and a signing request in PEM, for a key in a file and a subject as mbedTLS spells it. */
#include <stdio.h>
#include <string.h>
#include <mbedtls/ctr_drbg.h>
#include <mbedtls/entropy.h>
#include <mbedtls/pk.h>
#include <mbedtls/x509_crt.h>
#include <mbedtls/x509_csr.h>

int main(int argc, char **argv)
{
    mbedtls_entropy_context entropy;
    mbedtls_ctr_drbg_context random;
    mbedtls_pk_context key;
    mbedtls_mpi serial;
    mbedtls_x509write_cert certificate;
    mbedtls_x509write_csr request;
    unsigned char text[8192];
    int i;

    if (argc < 3)
        return 2;
    mbedtls_entropy_init(&entropy);
    mbedtls_ctr_drbg_init(&random);
    mbedtls_pk_init(&key);
    mbedtls_mpi_init(&serial);
    if (mbedtls_ctr_drbg_seed(&random, mbedtls_entropy_func, &entropy, NULL, 0) ||
        mbedtls_pk_parse_keyfile(&key, argv[1], NULL))
        return 3;
    for (i = 2; i < argc; i++) {
        mbedtls_x509write_crt_init(&certificate);
        mbedtls_x509write_crt_set_version(&certificate, i % 2 ? MBEDTLS_X509_CRT_VERSION_1 : MBEDTLS_X509_CRT_VERSION_3);
        mbedtls_x509write_crt_set_md_alg(&certificate, MBEDTLS_MD_SHA256);
        mbedtls_x509write_crt_set_subject_key(&certificate, &key);
        mbedtls_x509write_crt_set_issuer_key(&certificate, &key);
        mbedtls_mpi_lset(&serial, i);
        if (mbedtls_x509write_crt_set_subject_name(&certificate, argv[i]) ||
            mbedtls_x509write_crt_set_issuer_name(&certificate, argv[i]) ||
            mbedtls_x509write_crt_set_serial(&certificate, &serial) ||
            mbedtls_x509write_crt_set_validity(&certificate, "20200101000000", "20491231235959") ||
            mbedtls_x509write_crt_pem(&certificate, text, sizeof text, mbedtls_ctr_drbg_random, &random))
            return 4;
        fputs((char *) text, stdout);
        mbedtls_x509write_csr_init(&request);
        mbedtls_x509write_csr_set_md_alg(&request, MBEDTLS_MD_SHA256);
        mbedtls_x509write_csr_set_key(&request, &key);
        if (mbedtls_x509write_csr_set_subject_name(&request, argv[i]) ||
            mbedtls_x509write_csr_pem(&request, text, sizeof text, mbedtls_ctr_drbg_random, &random))
            return 5;
        fputs((char *) text, stdout);
    }
    return 0;
}
