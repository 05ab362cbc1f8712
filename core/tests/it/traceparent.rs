//! The place of a session in a trace: its text, its bytes, and what is no such place.

use std::sync::Arc;

use accompanist_core::NodeId;
use accompanist_core::contract::Space;
use accompanist_core::frame::{Header, Traceparent};
use accompanist_core::id::RoleIndex;
use accompanist_core::record::{Opened, read_value, value_bytes};

const TEXT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn opened(traceparent: Option<Traceparent>) -> Opened {
    let header = Header {
        choreography: "order".into(),
        version: 1,
        initiator: RoleIndex(0),
        cast: vec![NodeId::new("shop-1").unwrap()],
        started_unix_ms: 1,
        deadline_unix_ms: None,
        patches: Vec::new(),
        traceparent,
    };
    Opened { header: Arc::new(header), input: Some(vec![7].into()) }
}

#[test]
fn the_text_of_the_w3c_header_is_read_and_written() {
    let parsed: Traceparent = TEXT.parse().unwrap();
    assert_eq!((parsed.to_string().as_str(), parsed.is_sampled()), (TEXT, true));
    assert_eq!(parsed.span_id(), 0x00f0_67aa_0ba9_02b7_u64.to_be_bytes());
    let unsampled: Traceparent = TEXT.replace("-01", "-00").parse().unwrap();
    assert!(!unsampled.is_sampled());
    // A flag that is not known here is not passed on; a later version may say more.
    let later: Traceparent =
        format!("{}-more", TEXT.replace("00-4bf", "01-4bf").replace("-01", "-ff")).parse().unwrap();
    assert_eq!(later.to_string(), TEXT.replace("-01", "-03"));
}

#[test]
fn what_is_no_traceparent_is_refused() {
    let no_trace = format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32));
    let no_span = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{}-01", "0".repeat(16));
    let longer = format!("{TEXT}-more");
    let (upper, other) = (TEXT.to_uppercase(), TEXT.replace("00-4bf", "ff-4bf"));
    let letters = "ä".repeat(40);
    let signs = TEXT.replace("4bf9", "+bf9");
    for text in ["", "00", &no_trace, &no_span, &longer, &upper, &other, &letters, &signs, &TEXT[..54]] {
        let error = text.parse::<Traceparent>().unwrap_err().to_string();
        assert!(error.contains("is no traceparent: give") && error.len() < 400, "{error}");
    }
    assert_eq!(Traceparent::new([0; 16], [1; 8], 1), None);
    assert_eq!(Traceparent::new([1; 16], [0; 8], 1), None);
}

/// It costs a session 25 bytes, or one without a trace.
#[test]
fn a_header_has_the_traceparent_as_its_last_field() {
    let traced = opened(Traceparent::new([0xaa; 16], [0xbb; 8], 1));
    let [with, without] = [&traced, &opened(None)].map(|opened| value_bytes(opened).unwrap());
    assert_eq!(with.len() - without.len(), 25);
    assert_eq!(read_value::<Opened>(Space::Open, &with).unwrap(), traced);
}

#[test]
fn a_malformed_traceparent_is_ignored_and_its_session_goes_on() {
    let bytes = value_bytes(&opened(Traceparent::new([0xaa; 16], [0xbb; 8], 1))).unwrap();
    let at = bytes.windows(16).position(|window| window == [0xaa; 16]).unwrap();
    let mut forged = bytes.clone();
    forged[at..at + 16].fill(0);
    assert_eq!(read_value::<Opened>(Space::Open, &forged).unwrap(), opened(None));
}

#[test]
fn for_people_a_traceparent_is_its_text() {
    let header = opened(Some(TEXT.parse().unwrap())).header;
    let mut json = serde_json::to_value(&*header).unwrap();
    assert_eq!(json["traceparent"], TEXT);
    assert_eq!(serde_json::from_value::<Header>(json.clone()).unwrap(), *header);
    json["traceparent"] = "00-no-trace".into();
    assert_eq!(serde_json::from_value::<Header>(json.clone()).unwrap().traceparent, None);
    json.as_object_mut().unwrap().remove("traceparent");
    assert_eq!(serde_json::from_value::<Header>(json).unwrap().traceparent, None);
}
