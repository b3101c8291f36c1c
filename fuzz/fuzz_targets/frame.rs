//! The frames and payloads of the segmented store, and the blocks that its files begin with: no bytes make them panic,
//! what was written is read again, and a changed bit is noticed.
#![no_main]

use arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use run_agent_core::StreamKey;
use run_agent_fuzz::{message, stream};
use run_agent_store_segmented::block::{Header, Meta};
use run_agent_store_segmented::frame::{self, Bad, Batch, Head, PAYLOAD_MAX, Salt};
use run_agent_store_segmented::payload::{self, Id};

fuzz_target!(|bytes: &[u8]| {
    let key = stream(1);
    check(bytes, &key);
    let _ = check_written(&mut Unstructured::new(bytes), &key);
});

/// What holds for any bytes.
fn check(bytes: &[u8], key: &StreamKey) {
    let ts = run_agent_core::Timestamp::UNIX_EPOCH;
    if let Ok(message) = payload::decode(bytes, key, ts) {
        let mut again = Vec::new();
        payload::encode(&mut again, key, &Id::of(&message.id, ts), &message.content);
        assert_eq!(
            payload::decode(&again, key, ts),
            Ok(message),
            "what was read can be written and read again"
        );
    }
    match frame::decode(bytes, 0, Salt(0)) {
        Ok(frame) => assert!(frame.len <= bytes.len()),
        Err(Bad::Short { wanted }) => assert!(wanted > bytes.len(), "more is wanted than is there"),
        Err(Bad::Invalid) => {}
    }
    if let Some(header) = Header::decode(bytes) {
        assert_eq!(Header::decode(&header.encode()), Some(header));
    }
    if let Some(meta) = Meta::decode(bytes) {
        assert_eq!(Meta::decode(&meta.encode()), Some(meta));
    }
}

/// What holds for what the store writes.
fn check_written(u: &mut Unstructured<'_>, key: &StreamKey) -> Result<()> {
    let message = message(u, key)?;
    let mut payload = Vec::new();
    payload::encode(&mut payload, key, &Id::of(&message.id, message.ts), &message.content);
    assert_eq!(payload::decode(&payload, key, message.ts).as_ref(), Ok(&message));
    if payload.len() > PAYLOAD_MAX {
        return Ok(());
    }
    let (salt, lsn, offset) = (Salt(u.arbitrary()?), u.int_in_range(0..=u64::MAX / 2)?, u.arbitrary()?);
    let batch =
        Batch { first: lsn - lsn.min(u.arbitrary::<u8>()?.into()), count: 256, nonce: u.arbitrary()? };
    let head = Head {
        seal: false,
        lsn,
        offset,
        batch,
        ts: message.ts,
        durable: u.arbitrary()?,
        boot: u.arbitrary()?,
    };
    let mut bytes = Vec::new();
    frame::encode(&mut bytes, salt, &head, &payload);
    let frame = frame::decode(&bytes, offset, salt).expect("what was written is a frame");
    assert_eq!((frame.head, frame.payload, frame.len), (head, &payload[..], bytes.len()));
    let bit = u.int_in_range(0..=bytes.len() * 8 - 1)?;
    bytes[bit / 8] ^= 1 << (bit % 8);
    assert!(frame::decode(&bytes, offset, salt).is_err(), "bit {bit} was changed");
    Ok(())
}
