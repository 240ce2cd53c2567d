//! Request ids, invocation ids and trace ids.

use std::cell::RefCell;
use std::time::{SystemTime, UNIX_EPOCH};

use uuid::Uuid;

/// Random bytes are fetched in blocks: one system call for some thirty invocations.
const POOL_SIZE: usize = 1024;

struct Pool {
    bytes: [u8; POOL_SIZE],
    used: usize,
}

thread_local! {
    static POOL: RefCell<Pool> = const { RefCell::new(Pool { bytes: [0; POOL_SIZE], used: POOL_SIZE }) };
}

/// `N` random bytes. They name things in a local log; nothing secret depends on them.
fn random<const N: usize>() -> [u8; N] {
    POOL.with_borrow_mut(|pool| {
        if pool.used + N > POOL_SIZE {
            fill(&mut pool.bytes);
            pool.used = 0;
        }
        let mut out = [0; N];
        out.copy_from_slice(&pool.bytes[pool.used..pool.used + N]);
        pool.used += N;
        out
    })
}

fn fill(bytes: &mut [u8]) {
    let mut filled = 0;
    while filled < bytes.len() {
        let rest = &mut bytes[filled..];
        // SAFETY: the pointer and the length describe `rest`, which lives across the call.
        let got = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
        if let Ok(got) = usize::try_from(got) {
            filled += got;
        }
        // Only EINTR is possible here (no flags, a valid buffer): ask again.
    }
}

/// A version 4 UUID, as the platform's request ids are.
pub fn request_id() -> String {
    uuid().hyphenated().to_string()
}

/// The same, as a number: an extension's identifier may come back in another spelling.
pub fn uuid() -> Uuid {
    uuid::Builder::from_random_bytes(random()).into_uuid()
}

/// A number from 0 to below 1, all of them equally likely.
pub fn fraction() -> f64 {
    f64::from(u32::from_ne_bytes(random())) / (f64::from(u32::MAX) + 1.0)
}

/// A root trace id for a caller who sent none; not sampled, since nobody collects it (spec runtime-api 1.3).
pub fn trace_id() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let mut id = format!("Root=1-{:08x}-", seconds & 0xffff_ffff);
    push_hex(&mut id, &random::<12>());
    id.push_str(";Parent=");
    push_hex(&mut id, &random::<8>());
    id.push_str(";Sampled=0");
    id
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn request_ids_are_distinct_version_4_uuids() {
        let ids: HashSet<String> = (0..1000).map(|_| request_id()).collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.iter().all(|id| id.len() == 36 && id.as_bytes()[14] == b'4'));
    }

    #[test]
    fn trace_ids_have_the_shape_x_ray_documents() {
        let id = trace_id();
        assert_eq!(
            id.len(),
            "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=0".len()
        );
        assert!(id.starts_with("Root=1-") && id.ends_with(";Sampled=0"), "{id}");
    }
}
