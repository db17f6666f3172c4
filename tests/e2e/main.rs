//! The real daemon, real children, a real directory.
