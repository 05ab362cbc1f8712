//! The authority of a system: the certificate with which its members verify each other's certificates.

use anyhow::{Context, Result, ensure};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use time::{Duration, OffsetDateTime};

/// The authority's certificate.
pub(super) const CERTIFICATE: &str = "ca.pem";
/// The authority's key.
pub(super) const KEY: &str = "ca.key.pem";
/// How long before now a certificate becomes valid, since clocks differ.
const CLOCK_DIFFERENCE_MAX: Duration = Duration::hours(1);

pub(super) struct Authority {
    certificate: String,
    key: KeyPair,
}

impl Authority {
    pub(super) fn new(system: &str, days: u32) -> Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = params(&format!("{system} authority"), days)?;
        // The authority signs nodes and routers, but no other authorities.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key)?.pem();
        Ok(Self { certificate, key })
    }

    pub(super) fn read(certificate: String, key: &str) -> Result<Self> {
        Ok(Self { certificate, key: KeyPair::from_pem(key).context("the authority's key cannot be read")? })
    }

    pub(super) fn certificate_pem(&self) -> &str {
        &self.certificate
    }

    pub(super) fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// Issues a certificate for `name`, with its key.
    pub(super) fn issue(&self, name: &str, days: u32) -> Result<(String, String)> {
        // The issuer takes ownership of its key.
        let signing = KeyPair::from_pem(&self.key_pem())?;
        let issuer = Issuer::from_ca_cert_pem(&self.certificate, signing)
            .context("the authority's certificate cannot be read")?;
        let key = KeyPair::generate()?;
        let mut params = params(name, days)?;
        params.subject_alt_names = vec![rcgen::SanType::DnsName(name.try_into()?)];
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &issuer)?.pem();
        Ok((certificate, key.serialize_pem()))
    }
}

fn params(name: &str, days: u32) -> Result<CertificateParams> {
    ensure!(days > 0, "a certificate has to be good for a day at least");
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let now = OffsetDateTime::now_utc();
    params.not_before = now - CLOCK_DIFFERENCE_MAX;
    params.not_after = now.checked_add(Duration::days(days.into())).context("so many days are too many")?;
    Ok(params)
}
