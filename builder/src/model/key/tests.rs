use data_encoding::HEXUPPER;

use super::*;
use crate::mend;

/// The key of RFC 6979, section A.2.5, as `openssl pkcs8 -topk8 -nocrypt` writes it; OpenSSL 3.0.19.
const P256_KEY: &str = "\
-----BEGIN PRIVATE KEY-----
MEECAQAwEwYHKoZIzj0CAQYIKoZIzj0DAQcEJzAlAgEBBCDJr6nYRbp1FmtcIVdn
sdaTTlDD2zbomxJ7imIrEg9nIQ==
-----END PRIVATE KEY-----
";

/// Its public half, by `openssl pkey -pubout`.
const P256_PUBLIC: &str = "\
-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEYP7UuiVanTHJYet0xjVtaMBJuJI7
Yfps5mliLmDyn7Z5A/4QCLi8maQa6elWKLxk8vGyDC1+n1F3o8KU1EYimQ==
-----END PUBLIC KEY-----
";

/// By `openssl ec`.
const SEC1: &str = "\
-----BEGIN EC PRIVATE KEY-----
MHcCAQEEIMmvqdhFunUWa1whV2ex1pNOUMPbNuibEnuKYisSD2choAoGCCqGSM49
AwEHoUQDQgAEYP7UuiVanTHJYet0xjVtaMBJuJI7Yfps5mliLmDyn7Z5A/4QCLi8
maQa6elWKLxk8vGyDC1+n1F3o8KU1EYimQ==
-----END EC PRIVATE KEY-----
";

/// By `openssl pkcs8 -topk8 -passout pass:x`.
const ENCRYPTED: &str = "\
-----BEGIN ENCRYPTED PRIVATE KEY-----
MIGrMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAjhXPILi52cIwICCAAw
DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEB0jYbqEmAQWRIBxrGTbLFoEUINO
uy7CMpc5SKjW4NcZVCq+WMKFmSva8jIPCRYPEn1OvrNzX7XliffgZpDOCs3ahesj
T9lzZz4eiDoH72Ri1mfmBPWp+u7oBa3Yzjeq6h+h
-----END ENCRYPTED PRIVATE KEY-----
";

/// The secret key of RFC 8032, section 7.1, test 3, as `openssl pkey` writes it.
const ED25519_KEY: &str = "\
-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIMWqjfQ/n4N77bdELzHct7Fm04U1B28JS4XOOi4LRFj3
-----END PRIVATE KEY-----
";

const ED25519_PUBLIC: &str = "\
-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEA/FHNjmIYoaONpH7QAjDwWAgW7RO6MwOsXeuRFUiQgCU=
-----END PUBLIC KEY-----
";

/// By `openssl genpkey`.
const P384_KEY: &str = "\
-----BEGIN PRIVATE KEY-----
MIG2AgEAMBAGByqGSM49AgEGBSuBBAAiBIGeMIGbAgEBBDBZEpQv2O4x5sFpWgwY
AGoJB3xVkutFXiGtJsvvkdxU+27RxBM0CHsgGjYnSj+uiPKhZANiAARjCDOaYSfG
+39jdBsYQJnt+655T8uCvFpJ7/O7x+h7XfERt7I+tEfEkI51nuRyD3la/J0mA/7Y
QAmiKC7zERPSteny8Kf+6Pf9q3D5DMRzLbxeVlce4agSc98o2FwpgB0=
-----END PRIVATE KEY-----
";

const P384_PUBLIC: &str = "\
-----BEGIN PUBLIC KEY-----
MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEYwgzmmEnxvt/Y3QbGECZ7fuueU/Lgrxa
Se/zu8foe13xEbeyPrRHxJCOdZ7kcg95WvydJgP+2EAJoigu8xET0rXp8vCn/uj3
/atw+QzEcy28XlZXHuGoEnPfKNhcKYAd
-----END PUBLIC KEY-----
";

/// By `openssl genpkey`; 1024 bits, to be short.
const RSA_KEY: &str = "\
-----BEGIN PRIVATE KEY-----
MIICdgIBADANBgkqhkiG9w0BAQEFAASCAmAwggJcAgEAAoGBAO/2xxh3sfsCZ0DW
bV92X0vBlYinF9J0Xt8TCAhV2pYsDK12N8eRRofk+YjghMqhpKJrv55qRgmYzgh7
qVT9C9LMKHS9dqg+oCWo/iXCjo1v0FWAsrCcLapT9PC73eBzy13x7rCdNh7LiLE8
tTwgYqwcbk2SFCwTyMmWR29d00IRAgMBAAECgYAhTDcYWBOkZxL41khbBMv4cSZU
zgrqMyevAK8OqQsp53bi4xKeaLRGyyktKyqCC6gSuazfSJPrZP7CApbeqjZnhw9h
4d8btjXes4N0HmP2hfgaz9V3X7tFrj+62XeU7pTtV3MhaLbNtQg1i8EBMfTuWs2Y
wN8y4j0M27RRaXsboQJBAPlsbHw4vFrskNhIWZ53pn17O05ARYuvNbtgaBwPMvRq
eNNMy3NqQcWikheIV0qPm3NPhaCe6mnnn4EAwnbGNC0CQQD2SoDQ5M8VJTohx24R
DrZ5NivSKiZ0zczG0d7mVxVeOKRc8bSi5LyKxXNtu07vcBRT4dHWxdR0rVYzpTq6
5X/1AkEAlV4v7YhQjCblaxCQ0syWoMi+sFLfExK/G9JVJpCXlDV63Bc+M4TrlH6R
/JPCqr0re7egr5rbiMaUB747tsNllQJAVZu4AuRFhtgVyMAFZjBzBNbrjHXSQC94
ynMQw4fpiYKuvw/U9foD/0h6wt2kpl2S80U/JyREoPnPSMxaCbTUMQJAazwUeSWj
rCYMAFokwmo/mrfy7uySG5rEfAOySKTxIBHsLBRmf6SFz+3DSlqbg5RhKU2foxen
/gDRjUZvkD0ffA==
-----END PRIVATE KEY-----
";

#[test]
fn signatures_on_p256_are_those_of_rfc_6979() {
    let key = SigningKey::from_pem(P256_KEY).unwrap();
    let signature = key.sign(b"sample");
    assert_eq!(
        HEXUPPER.encode(&signature),
        "3046\
         022100EFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716\
         022100F7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8"
    );
    assert!(key.public().verifies(b"sample", &signature));
    assert!(!key.public().verifies(b"simple", &signature));
}

#[test]
fn signatures_of_ed25519_are_those_of_rfc_8032() {
    let key = SigningKey::from_pem(ED25519_KEY).unwrap();
    let signature = key.sign(&[0xaf, 0x82]);
    assert_eq!(
        HEXUPPER.encode(&signature),
        "6291D657DEEC24024827E69C3ABE01A30CE548A284743A445E3680D7DB5AC3AC\
         18FF9B538D16F290AE67F760984DC6594A7C15E9716ED28DC027BECEEA1EC40A"
    );
    assert!(key.public().verifies(&[0xaf, 0x82], &signature));
    assert!(!key.public().verifies(&[0xaf, 0x83], &signature));
}

#[test]
fn public_keys_are_written_as_openssl_does() {
    for (private, public) in [(P256_KEY, P256_PUBLIC), (ED25519_KEY, ED25519_PUBLIC)] {
        let key = SigningKey::from_pem(private).unwrap().public();
        assert_eq!(key.pem(), public);
        assert_eq!(PublicKey::from_pem(public).unwrap(), key);
    }
}

/// `ssh-keygen -i -m PKCS8` and `ssh-keygen -l` (P-256); the OpenSSH form and `hashlib` of Python (both).
#[test]
fn key_ids_are_the_fingerprints_of_openssh() {
    let id = |public| PublicKey::from_pem(public).unwrap().id().to_string();
    assert_eq!(id(P256_PUBLIC), "SHA256:hfuNWmjIYvsBGZ6dpCLTTAEa5LxbZABRHHVoynAxFlo");
    assert_eq!(id(ED25519_PUBLIC), "SHA256:s3Z2A+mldeflHo5TMMEUA7MlkMg96xvtqH9DGLHHZmE");
}

#[test]
fn a_token_may_give_both_numbers_side_by_side() {
    let key = SigningKey::from_pem(P256_KEY).unwrap();
    let signature = key.sign(b"sample");
    let plain = p256::ecdsa::Signature::from_der(&signature).unwrap().to_bytes();
    assert_eq!(key.public().as_bundled(&plain), signature);
    assert_eq!(key.public().as_bundled(&signature), signature);
    assert_eq!(key.public().as_bundled(b"neither"), b"neither");
}

fn refusal<T: std::fmt::Debug>(parsed: Result<T>) -> String {
    let error = parsed.expect_err("it is no such key");
    assert_eq!(mend::exit_code(&error), Exit::Usage);
    mend::report(&error)
}

#[test]
fn a_key_of_the_wrong_kind_is_refused_with_what_it_is_and_the_mend() {
    let cut = P256_KEY.replacen(
        "MEECAQAwEwYHKoZIzj0CAQYIKoZIzj0DAQcEJzAlAgEBBCDJ",
        "MEECAQAwEwYHKoZIzj0CAQYIKoZIzj0DAQcEJzAlAgEBBCDK",
        1,
    );
    assert!(
        SigningKey::from_pem(&cut).is_ok(),
        "another secret number is another key"
    );
    for (text, what, mend) in [
        (RSA_KEY, "an RSA key", "openssl genpkey -algorithm EC"),
        (P384_KEY, "a key on P-384", "openssl genpkey -algorithm EC"),
        (ENCRYPTED, "an encrypted private key", "openssl pkcs8 -in KEY"),
        (P256_PUBLIC, "a public key", "give the private one"),
        (SEC1, "a EC PRIVATE KEY", "openssl pkcs8 -topk8 -nocrypt"),
        ("", "no PEM", "openssl genpkey"),
        (&P256_KEY[..90], "no PEM", "openssl genpkey"),
    ] {
        let report = refusal(SigningKey::from_pem(text));
        assert!(report.contains(what) && report.contains(mend), "{report}");
    }
}

#[test]
fn a_public_key_of_the_wrong_kind_is_refused_too() {
    for (text, what) in [
        (P384_PUBLIC, "a key on P-384"),
        (P256_KEY, "a PRIVATE KEY"),
        (RSA_KEY, "a PRIVATE KEY"),
        ("hello", "no PEM"),
    ] {
        let report = refusal(PublicKey::from_pem(text));
        assert!(report.contains(what), "{report}");
    }
}

#[test]
fn random_bytes_that_are_no_secret_number_make_no_key() {
    assert!(SigningKey::from_random([0; 32]).is_none());
    assert!(SigningKey::from_random([0xff; 32]).is_none());
    assert!(SigningKey::from_random([1; 32]).is_some());
}
