//! Many alike requests that may all fail for one reason, such as a quota: one, then twice as many at a time.

use futures::future::join_all;

use super::Outcome;

/// Calls `write` so many times; after a failure no further ones begin.
pub(super) async fn slow_start<F>(count: usize, write: impl Fn() -> F) -> Outcome
where
    F: Future<Output = Result<u64, String>>,
{
    let mut total = Outcome::default();
    let (mut remaining, mut batch) = (count, 1);
    while remaining > 0 && total.failure.is_none() {
        batch = batch.min(remaining);
        let Outcome { revision, failure } = join_all((0..batch).map(|_| write())).await.into_iter().collect();
        total = Outcome { revision: revision.max(total.revision), failure };
        remaining -= batch;
        batch *= 2;
    }
    total
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Upstream's `TestSlowStartBatch`.
    #[tokio::test]
    async fn no_batch_follows_a_failed_one() {
        for (case, wanted, allowed, calls) in
            [("all fail", 10, 0, 1), ("all succeed", 10, 10, 10), ("some succeed", 10, 5, 7), ("none wanted", 0, 0, 0)]
        {
            let called = AtomicUsize::new(0);
            let outcome = slow_start(wanted, || {
                let call = called.fetch_add(1, Ordering::Relaxed);
                async move { if call < allowed { Ok(call as u64) } else { Err("full".to_owned()) } }
            })
            .await;
            assert_eq!(called.into_inner(), calls, "{case}");
            assert_eq!(outcome.failure.is_some(), calls > allowed, "{case}");
            assert_eq!(outcome.revision, (allowed as u64).saturating_sub(1), "{case}");
        }
    }
}
