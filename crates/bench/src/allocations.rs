//! Counts heap allocations, in binaries that install [`Counting`] as their global allocator:
//!
//! ```
//! #[global_allocator]
//! static ALLOCATOR: kontiki_bench::allocations::Counting<std::alloc::System> =
//!     kontiki_bench::allocations::Counting(std::alloc::System);
//! # fn main() { assert!(kontiki_bench::allocations::count(|| Box::new(1)).1 == Some(1)); }
//! ```
//!
//! Outside of [`count`] it costs one load of a flag per allocation.

use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

static ON: AtomicBool = AtomicBool::new(false);
static COUNT: AtomicU64 = AtomicU64::new(0);

/// An allocator, with a counter.
pub struct Counting<A>(pub A);

// SAFETY: everything is handed on to the other allocator, unchanged.
#[expect(unsafe_code, reason = "an allocator cannot be written without")]
unsafe impl<A: GlobalAlloc> GlobalAlloc for Counting<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        unsafe { self.0.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note();
        unsafe { self.0.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note();
        unsafe { self.0.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { self.0.dealloc(pointer, layout) }
    }
}

#[inline]
fn note() {
    if ON.load(Relaxed) {
        COUNT.fetch_add(1, Relaxed);
    }
}

/// Runs `work` and counts the allocations of the whole process meanwhile. `None` where the
/// allocator is not [`Counting`].
pub fn count<T>(work: impl FnOnce() -> T) -> (T, Option<u64>) {
    COUNT.store(0, Relaxed);
    ON.store(true, Relaxed);
    drop(std::hint::black_box(Box::new(0_u8)));
    let installed = COUNT.swap(0, Relaxed) > 0;
    let result = work();
    ON.store(false, Relaxed);
    (result, installed.then(|| COUNT.load(Relaxed)))
}
