#!/bin/sh
# certs.sh DIR - makes the certificates that tests use; prints nothing unless something fails.
#
#   ca.pem            the authority of all below, but other-*
#   server-rsa        RSA 2048 and
#   server-ecdsa      P-256, both for localhost, 127.0.0.1 and ::1
#   server-name, server-wild, server-cn   for name.example.org, *.example.org, and old.example.org as CN only
#   server-short      RSA 512
#   client            e-mail, DNS and URI SANs; subject DC=org, DC=example, O, OU twice, CN
#   client-multi      subject with an RDN of two values
#   client-server-eku a client that may only be a server
#   client-expired    expired long ago
#   client-sha1       signed with SHA-1
#   client-inter      signed by inter-ca, which ca signed; client-inter-chain.pem has both
#   other-ca, other-client    nobody the server knows
#   encrypted-key.pem the key of server-rsa behind the pass phrase "secret"
#
# NAME.pem is the certificate, NAME-key.pem its key.
set -eu

if [ $# -ne 1 ]; then
    echo "usage: certs.sh DIR" >&2
    exit 2
fi
mkdir -p "$1"
cd "$1"

# quiet COMMAND...: shows what it said only when it fails.
quiet() {
    "$@" >certs.log 2>&1 || {
        cat certs.log >&2
        exit 1
    }
}

# make_key NAME rsa|short|ecdsa
make_key() {
    case $2 in
    short) quiet openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:512 -out "$1-key.pem" ;;
    rsa) quiet openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out "$1-key.pem" ;;
    *) quiet openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1-key.pem" ;;
    esac
    chmod 600 "$1-key.pem"
}

# make_ca NAME SUBJECT
make_ca() {
    make_key "$1" ecdsa
    quiet openssl req -x509 -new -sha256 -key "$1-key.pem" -days 3650 -subj "$2" -out "$1.pem" \
        -addext keyUsage=critical,keyCertSign,cRLSign
}

# make_cert NAME rsa|short|ecdsa CA SUBJECT EXTENDED-USAGE SAN [openssl ca options]
make_cert() {
    name=$1 type=$2 ca=$3 subject=$4 usage=$5 san=$6
    shift 6
    make_key "$name" "$type"
    quiet openssl req -new -sha256 -multivalue-rdn -key "$name-key.pem" -subj "$subject" \
        -out "$name.csr"
    cat >certs.cnf <<CNF
[ca]
default_ca = ca_default
[ca_default]
new_certs_dir = .
database = certs.index
rand_serial = yes
default_md = sha256
default_days = 3650
policy = any
unique_subject = no
x509_extensions = leaf
[any]
[leaf]
basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature,keyEncipherment
extendedKeyUsage = $usage
$san
[inter]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign
CNF
    : >certs.index
    quiet openssl ca -batch -notext -preserveDN -config certs.cnf -cert "$ca.pem" \
        -keyfile "$ca-key.pem" -in "$name.csr" -out "$name.pem" "$@"
    rm -f ./[0-9A-F][0-9A-F]*.pem
}

make_ca ca '/O=ringbus tests/CN=Test CA'
make_ca other-ca '/O=ringbus tests/CN=Other CA'

hosts='subjectAltName = DNS:localhost,IP:127.0.0.1,IP:::1'
make_cert server-rsa rsa ca '/O=ringbus tests/CN=server-rsa' serverAuth "$hosts"
make_cert server-ecdsa ecdsa ca '/O=ringbus tests/CN=server-ecdsa' serverAuth "$hosts"
make_cert server-name ecdsa ca '/CN=name' serverAuth 'subjectAltName = DNS:name.example.org'
make_cert server-wild rsa ca '/CN=wild' serverAuth 'subjectAltName = DNS:*.example.org'
make_cert server-cn rsa ca '/CN=old.example.org' serverAuth ''
make_cert server-short short ca '/CN=short' serverAuth "$hosts"

names='subjectAltName = email:derek@example.org,DNS:client.example.org,URI:spiffe://example.org/client'
make_cert client ecdsa ca '/DC=org/DC=example/O=Example, Inc./OU=people/OU=ops/CN=derek' \
    clientAuth "$names"
make_cert client-multi ecdsa ca '/C=US/O=Example/CN=multi+UID=4711' clientAuth ''
make_cert client-server-eku ecdsa ca '/CN=not a client' serverAuth ''
make_cert client-expired ecdsa ca '/CN=late' clientAuth '' \
    -startdate 20200101000000Z -enddate 20200102000000Z
make_cert client-sha1 ecdsa ca '/CN=sha1' clientAuth '' -md sha1
make_cert inter-ca ecdsa ca '/CN=Inter CA' clientAuth '' -extensions inter
make_cert client-inter ecdsa inter-ca '/CN=inter' clientAuth ''
cat client-inter.pem inter-ca.pem >client-inter-chain.pem
make_cert other-client ecdsa other-ca '/CN=stranger' clientAuth "$names"

quiet openssl pkey -in server-rsa-key.pem -aes-256-cbc -passout pass:secret -out encrypted-key.pem
chmod 600 encrypted-key.pem
rm -f ./*.csr certs.cnf certs.index* certs.log
