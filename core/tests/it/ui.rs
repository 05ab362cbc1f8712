//! Programs that have to be rejected, each with a message that a newcomer understands.

#[test]
fn mistakes_of_a_choreographer_do_not_compile() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
