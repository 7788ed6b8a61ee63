//! Secrets: values that no fact holds in the clear, not even one that is read back. What a fact holds is sealed here, under the
//! key of whom it belongs to, and opened only where it is handed to that workspace.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::envelope::StreamId;
use crate::keyring::{Keyring, KeyringError, MasterKey, Rotation, Unsealed};

/// Why a secret can't be sealed or opened. It is lost to nobody: with the right keys it opens.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The owner's key was destroyed, with all that it sealed.
    #[error("the key that sealed it was destroyed")]
    Erased,
    /// The key is not among those that are there.
    #[error("the key that sealed it is not here: the keys of another installation, or of another backup")]
    Missing,
    /// It is not what was sealed, or not under this name.
    #[error("it is damaged")]
    Damaged,
    /// The keys themselves can't be used.
    #[error(transparent)]
    Keys(#[from] KeyringError),
}

/// Seals and opens secrets. Cheap to clone.
#[derive(Clone)]
pub struct Vault {
    keys: Arc<Keyring>,
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Vault")
    }
}

impl Vault {
    /// With these keys.
    pub const fn new(keys: Arc<Keyring>) -> Self {
        Self { keys }
    }

    /// Seals a value under its owner's key, tied to its name: moved under another name it does not open. The key is durable when
    /// this returns. Blocks for the first secret of an owner.
    ///
    /// # Errors
    /// When the owner's key was destroyed, or a new one can't be kept.
    pub fn seal(&self, owner: StreamId, name: &str, value: &str) -> Result<String, VaultError> {
        let sealed = self.keys.seal(owner, &context(name), value.as_bytes())?.ok_or(VaultError::Erased)?;
        self.keys.settle()?;
        Ok(STANDARD.encode(sealed))
    }

    /// Replaces the master key of all keys: see [`Keyring::rotate`]. Blocks.
    ///
    /// # Errors
    /// As there.
    pub fn rotate(&self, next: Option<MasterKey>) -> Result<Rotation, KeyringError> {
        self.keys.rotate(next)
    }

    /// The change of the master key that this run has ended, if there was one.
    pub fn rotated(&self) -> Option<&Rotation> {
        self.keys.rotated()
    }

    /// The value of a sealed secret.
    ///
    /// # Errors
    /// When it does not open: see [`VaultError`].
    pub fn open(&self, name: &str, sealed: &str) -> Result<Zeroizing<String>, VaultError> {
        let bytes = STANDARD.decode(sealed).map_err(|_| VaultError::Damaged)?;
        match self.keys.unseal(&context(name), &bytes).map_err(|_| VaultError::Damaged)? {
            Unsealed::Plain(plain) => {
                String::from_utf8(plain).map(Zeroizing::new).map_err(|_| VaultError::Damaged)
            }
            Unsealed::Erased => Err(VaultError::Erased),
            Unsealed::Missing(_) | Unsealed::Lost => Err(VaultError::Missing),
        }
    }
}

fn context(name: &str) -> Vec<u8> {
    [b"secret\0".as_slice(), name.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::WorkspaceId;

    fn vault(dir: &std::path::Path) -> Vault {
        Vault::new(Arc::new(Keyring::open(dir, None).unwrap()))
    }

    #[test]
    fn a_secret_opens_under_its_own_name_also_after_a_restart_and_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let owner = StreamId::Workspace(WorkspaceId::generate());
        let sealed = vault(dir.path()).seal(owner, "API_KEY", "s3cret-value").unwrap();
        assert!(!sealed.contains("s3cret"));
        let again = vault(dir.path());
        assert_eq!(again.open("API_KEY", &sealed).unwrap().as_str(), "s3cret-value");
        assert!(matches!(again.open("OTHER", &sealed), Err(VaultError::Damaged)));
        let elsewhere = tempfile::tempdir().unwrap();
        assert!(matches!(vault(elsewhere.path()).open("API_KEY", &sealed), Err(VaultError::Missing)));
        again.keys.erase(owner).unwrap();
        assert!(matches!(again.open("API_KEY", &sealed), Err(VaultError::Erased)));
        assert!(matches!(again.seal(owner, "API_KEY", "x"), Err(VaultError::Erased)));
    }
}
