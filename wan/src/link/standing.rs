//! What an endpoint has in common with the one before its restart: the keys of connection ids and of stateless resets.
//!
//! A box that is killed leaves its peers with connections to a process that is gone. With these keys the process that comes
//! after it knows a datagram of such a connection for what it is, and answers with a stateless reset (RFC 9000, section 10.3)
//! that the peer believes; so the peer's sessions go on elsewhere after one round trip instead of after the idle timeout.
//! Both keys come from the identity, so nothing more is kept. Without the identity nobody can make such a reset.

use std::sync::Arc;

use quinn::EndpointConfig;
use quinn_proto::crypto::{CryptoError, HmacKey};
use quinn_proto::{ConnectionIdGenerator, HashedConnectionIdGenerator};

use super::identity::Identity;

const RESET_CONTEXT: &str = "narrowboat 2026 v1 stateless reset";
const ID_CONTEXT: &str = "narrowboat 2026 v1 connection id";

/// The same for every start of the box with this identity.
pub(super) fn endpoint_config(identity: &Identity) -> EndpointConfig {
    let mut config = EndpointConfig::new(Arc::new(ResetKey(blake3::derive_key(RESET_CONTEXT, identity.seed()))));
    // Tells ids that this box gave out from noise, which is not answered. It is no secret that anything depends on.
    let key = blake3::derive_key(ID_CONTEXT, identity.seed());
    let key = u64::from_le_bytes([key[0], key[1], key[2], key[3], key[4], key[5], key[6], key[7]]);
    config.cid_generator(move || -> Box<dyn ConnectionIdGenerator> {
        Box::new(HashedConnectionIdGenerator::from_key(key))
    });
    config
}

/// BLAKE3 in keyed mode, in the place of an HMAC.
struct ResetKey([u8; 32]);

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        signature_out.copy_from_slice(blake3::keyed_hash(&self.0, data).as_bytes());
    }

    fn signature_len(&self) -> usize {
        blake3::OUT_LEN
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        let signature = <[u8; blake3::OUT_LEN]>::try_from(signature).map_err(|_| CryptoError)?;
        // Compared in constant time.
        if blake3::keyed_hash(&self.0, data) == signature { Ok(()) } else { Err(CryptoError) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_is_the_same_after_a_restart_and_nobody_elses() {
        let sign = |seed: u8| {
            let key = ResetKey(blake3::derive_key(RESET_CONTEXT, Identity::from_seed([seed; 32]).seed()));
            let mut signature = vec![0; key.signature_len()];
            key.sign(b"connection", &mut signature);
            assert!(key.verify(b"connection", &signature).is_ok() && key.verify(b"another", &signature).is_err());
            assert!(key.verify(b"connection", &signature[1..]).is_err());
            signature
        };
        assert_eq!(sign(1), sign(1));
        assert_ne!(sign(1), sign(2));
    }
}
