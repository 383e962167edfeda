//! Questions about who somebody is.

mod self_subject_review;
mod token_review;

pub use self_subject_review::SELF_SUBJECT_REVIEW;
pub use token_review::TOKEN_REVIEW;
