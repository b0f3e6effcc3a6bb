/* A board's side of a connection, with Mbed TLS: handshake, CONNECT of MQTT 3.1.1, and what came of it as one line.

   board SOCKET ROOT CREDENTIAL|- NAME SUITE|- ALPN|- CLIENT_ID
   SOCKET is connected already. CREDENTIAL has the certificate and its key. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <mbedtls/ctr_drbg.h>
#include <mbedtls/entropy.h>
#include <mbedtls/net_sockets.h>
#include <mbedtls/ssl.h>

static int is_given(const char *argument)
{
    return strcmp(argument, "-") != 0;
}

static void must(int result, const char *what)
{
    if (result != 0) {
        fprintf(stderr, "%s: -0x%04x\n", what, (unsigned int)-result);
        exit(2);
    }
}

int main(int count, char **arguments)
{
    mbedtls_net_context net = {.fd = count == 8 ? atoi(arguments[1]) : -1};
    mbedtls_entropy_context entropy;
    mbedtls_ctr_drbg_context random;
    mbedtls_x509_crt root, certificate;
    mbedtls_pk_context key;
    mbedtls_ssl_config config;
    mbedtls_ssl_context tls;
    int suites[2] = {0, 0};
    const char *protocols[2] = {arguments[6], NULL};
    unsigned char packet[128] = {0x10, 0, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 60, 0};
    size_t length = strlen(arguments[7]);
    int result;

    mbedtls_entropy_init(&entropy);
    mbedtls_ctr_drbg_init(&random);
    mbedtls_x509_crt_init(&root);
    mbedtls_x509_crt_init(&certificate);
    mbedtls_pk_init(&key);
    mbedtls_ssl_config_init(&config);
    mbedtls_ssl_init(&tls);
    must(mbedtls_ctr_drbg_seed(&random, mbedtls_entropy_func, &entropy, NULL, 0), "seed");
    must(mbedtls_x509_crt_parse_file(&root, arguments[2]), "root");
    must(mbedtls_ssl_config_defaults(&config, MBEDTLS_SSL_IS_CLIENT, MBEDTLS_SSL_TRANSPORT_STREAM,
                                     MBEDTLS_SSL_PRESET_DEFAULT), "defaults");
    mbedtls_ssl_conf_rng(&config, mbedtls_ctr_drbg_random, &random);
    mbedtls_ssl_conf_ca_chain(&config, &root, NULL);
    if (is_given(arguments[3])) {
        must(mbedtls_x509_crt_parse_file(&certificate, arguments[3]), "certificate");
        must(mbedtls_pk_parse_keyfile(&key, arguments[3], NULL), "key");
        must(mbedtls_ssl_conf_own_cert(&config, &certificate, &key), "own certificate");
    }
    if (is_given(arguments[5])) {
        suites[0] = mbedtls_ssl_get_ciphersuite_id(arguments[5]);
        must(suites[0] == 0, "suite");
        mbedtls_ssl_conf_ciphersuites(&config, suites);
    }
    if (is_given(arguments[6]))
        must(mbedtls_ssl_conf_alpn_protocols(&config, protocols), "ALPN");
    must(mbedtls_ssl_setup(&tls, &config), "setup");
    must(mbedtls_ssl_set_hostname(&tls, arguments[4]), "name");
    mbedtls_ssl_set_bio(&tls, &net, mbedtls_net_send, mbedtls_net_recv, NULL);

    result = mbedtls_ssl_handshake(&tls);
    if (result != 0) {
        unsigned int flags = mbedtls_ssl_get_verify_result(&tls);
        printf("-0x%04x", (unsigned int)-result);
        if (result == MBEDTLS_ERR_X509_CERT_VERIFY_FAILED)
            printf(", flag 0x%x", flags);
        putchar('\n');
        return 0;
    }
    packet[1] = (unsigned char)(12 + length);
    packet[13] = (unsigned char)length;
    memcpy(packet + 14, arguments[7], length);
    must(mbedtls_ssl_write(&tls, packet, 14 + length) < 0, "write");
    result = mbedtls_ssl_read(&tls, packet, sizeof packet);
    if (result == 4 && packet[0] == 0x20)
        printf("CONNACK %d\n", packet[3]);
    else
        printf("-0x%04x\n", (unsigned int)-result);
    return 0;
}
