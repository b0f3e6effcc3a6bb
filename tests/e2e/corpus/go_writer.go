// Writes certificates and signing requests in PEM, for a key in a file (PKCS #8) and common names.
package main

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"os"
	"time"
)

func main() {
	text, _ := os.ReadFile(os.Args[1])
	block, _ := pem.Decode(text)
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		panic(err)
	}
	key := parsed.(crypto.Signer)
	for number, name := range os.Args[2:] {
		subject := pkix.Name{CommonName: name, Organization: []string{"Plant & Co"}, SerialNumber: "SN_1",
			ExtraNames: []pkix.AttributeTypeAndValue{{Type: asn1.ObjectIdentifier{2, 5, 4, 11}, Value: name}}}
		template := x509.Certificate{SerialNumber: big.NewInt(int64(number + 1)), Subject: subject,
			NotBefore: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2060, 1, 1, 0, 0, 0, 0, time.UTC),
			DNSNames: []string{"device.example"}}
		made, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
		if err != nil {
			panic(err)
		}
		pem.Encode(os.Stdout, &pem.Block{Type: "CERTIFICATE", Bytes: made})
		made, err = x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: subject}, key)
		if err != nil {
			panic(err)
		}
		pem.Encode(os.Stdout, &pem.Block{Type: "CERTIFICATE REQUEST", Bytes: made})
	}
}
