//! Workloads that end.

mod cron_job;
pub mod job;

pub use cron_job::CRON_JOB;
pub use job::JOB;
