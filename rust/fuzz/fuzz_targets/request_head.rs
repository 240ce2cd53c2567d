//! No header value, whatever a handler's error message or a trace holds, adds a line to the request or ends its head.
#![no_main]

use caloric_core::http1::RequestHead;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|values: Vec<String>| {
    let mut wire = Vec::new();
    let mut head = RequestHead::new(&mut wire, "POST", &["/2018-06-01/runtime/", "invocation/1/response"]);
    for value in &values {
        head = head.header("Name", value);
    }
    head.end();

    let mut fields = vec![httparse::EMPTY_HEADER; values.len()];
    let mut request = httparse::Request::new(&mut fields);
    let parsed = request.parse(&wire).expect("a head that parses");
    assert_eq!(parsed, httparse::Status::Complete(wire.len()));
    assert_eq!(request.headers.len(), values.len());
});
