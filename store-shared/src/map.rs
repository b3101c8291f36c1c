//! The maps of the stores: pages that processes share. What is appended is never mapped: an I/O error there would end
//! the process.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::marker::PhantomData;

use memmap2::{MmapOptions, MmapRaw};

use crate::page::{Bell, Page};
use crate::sync::{AtomicU32, AtomicU64};

pub(crate) const PAGE_LEN: usize = 4096;

#[derive(Debug)]
pub(crate) struct Mapped<const OWN: usize>(MmapRaw, PhantomData<Page<OWN>>);

impl<const OWN: usize> Mapped<OWN> {
    const FITS: () = assert!(size_of::<Page<OWN>>() <= PAGE_LEN && align_of::<Page<OWN>>() <= 8);

    /// The file has [`PAGE_LEN`] bytes: the system ends a process that looks at a page behind a file's end.
    pub(crate) fn new(file: &File) -> io::Result<Self> {
        let () = Self::FITS;
        Ok(Self(MmapOptions::new().len(PAGE_LEN).map_raw(file)?, PhantomData))
    }

    /// As [`Mapped::new`], of a file that was opened to be read: whoever stores into this page is ended by the system.
    pub(crate) fn to_read(file: &File) -> io::Result<Self> {
        let () = Self::FITS;
        Ok(Self(MmapOptions::new().len(PAGE_LEN).map_raw_read_only(file)?, PhantomData))
    }

    pub(crate) fn page(&self) -> &Page<OWN> {
        // SAFETY: the map is PAGE_LEN bytes long, which Page fits into, aligned to a page, and lives as long as `self`.
        // Page consists of atomics alone, for which every bit pattern is a value, and which other processes may change
        // at any moment.
        unsafe { &*self.0.as_ptr().cast::<Page<OWN>>() }
    }
}

/// The bytes of a page that nobody else has seen yet.
pub(crate) fn bytes_of<const OWN: usize>(page: &Page<OWN>) -> Vec<u8> {
    // SAFETY: Page is `repr(C)`, made of 4- and 8-byte words without padding between them, all of which are initialised;
    // the reference keeps it alive, and nobody else can write to it meanwhile.
    let bytes =
        unsafe { std::slice::from_raw_parts(std::ptr::from_ref(page).cast::<u8>(), size_of::<Page<OWN>>()) };
    let mut bytes = bytes.to_vec();
    bytes.resize(PAGE_LEN, 0);
    bytes
}

/// How many counters a doorbell has.
pub(crate) const COUNTERS: usize = 4080;

/// `docs/formats/doorbell.md`.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct DoorbellPage {
    pub(crate) magic: AtomicU64,
    pub(crate) bell: Bell,
    pad: [AtomicU64; 6],
    pub(crate) counters: [AtomicU32; COUNTERS],
}

impl DoorbellPage {
    pub(crate) const LEN: usize = 16 * 1024;
}

#[derive(Debug)]
pub(crate) struct MappedDoorbell(MmapRaw);

impl MappedDoorbell {
    const FITS: () = assert!(size_of::<DoorbellPage>() == DoorbellPage::LEN);

    /// The file has [`DoorbellPage::LEN`] bytes.
    pub(crate) fn new(file: &File) -> io::Result<Self> {
        let () = Self::FITS;
        Ok(Self(MmapOptions::new().len(DoorbellPage::LEN).map_raw(file)?))
    }

    pub(crate) fn page(&self) -> &DoorbellPage {
        // SAFETY: the map is as long as DoorbellPage, aligned to a page, and lives as long as `self`. DoorbellPage consists of
        // atomics alone, for which every bit pattern is a value, and which other processes may change at any moment.
        unsafe { &*self.0.as_ptr().cast::<DoorbellPage>() }
    }
}
