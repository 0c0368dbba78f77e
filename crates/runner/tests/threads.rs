//! Starting oneself again with another number of threads. Without a test harness, because the
//! program under test is this one.

use std::env;

use foretoken_runner::{rerun_with_threads, threads_in_effect};

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match rerun_with_threads(3) {
        // On Unix only the second process comes here.
        Ok(None) => {
            assert_eq!(threads_in_effect(), 3);
            assert_eq!(env::var("RAYON_NUM_THREADS").as_deref(), Ok("3"));
            assert_eq!(env::args().skip(1).collect::<Vec<_>>(), arguments);
            assert!(matches!(rerun_with_threads(3), Ok(None)), "it started itself twice");
        }
        Ok(Some(status)) => assert!(status.success(), "the second process failed: {status}"),
        Err(error) => panic!("cannot start again: {error}"),
    }
}
