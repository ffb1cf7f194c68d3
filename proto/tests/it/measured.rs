//! Counts what the thread that asks has allocated.
#![allow(unsafe_code, reason = "a global allocator cannot be written without; it only counts and hands on")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// Bytes held now and at most, since the last reset. Tests run side by side, each on its own thread.
    static HELD: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
}

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

fn grow(bytes: isize) {
    // A thread that ends still frees: then there is nothing left to count in.
    let _gone = HELD.try_with(|held| {
        let (now, most) = held.get();
        held.set((now + bytes, most.max(now + bytes)));
    });
}

fn size(bytes: usize) -> isize {
    isize::try_from(bytes).unwrap_or(isize::MAX)
}

// SAFETY: every call goes to the system's allocator with the arguments as they came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grow(size(layout.size()));
        // SAFETY: the caller's promises about `layout` are handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        grow(-size(layout.size()));
        // SAFETY: the caller's promises about `pointer` and `layout` are handed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // While it is copied both are held.
        grow(size(new_size));
        // SAFETY: the caller's promises about all three are handed on.
        let moved = unsafe { System.realloc(pointer, layout, new_size) };
        grow(-size(layout.size()));
        moved
    }
}

/// What `work` gives, and the most bytes that it held at once beyond what was held before.
pub(crate) fn peak<T>(work: impl FnOnce() -> T) -> (T, usize) {
    HELD.set((0, 0));
    let done = work();
    let (_, most) = HELD.get();
    (done, usize::try_from(most).unwrap())
}

#[test]
fn what_is_held_is_counted_at_its_peak() {
    let (kept, most) = peak(|| {
        drop(vec![0_u8; 100_000]);
        vec![0_u8; 1_000]
    });
    assert_eq!(kept.len(), 1_000);
    assert!((100_000..110_000).contains(&most), "{most}");
    let ((), most) = peak(|| {
        let mut grown = Vec::<u8>::with_capacity(1_000);
        grown.reserve_exact(50_000);
    });
    assert!((51_000..52_000).contains(&most), "{most}");
}
