//! The program in README.md is the example, which runs.

#[path = "../../examples/first.rs"]
mod first;

#[test]
fn the_program_in_the_readme_runs() {
    let readme = include_str!("../../README.md");
    let (_, program) = include_str!("../../examples/first.rs").split_once("\n\n").unwrap();
    assert!(
        readme.contains(&format!("```rust\n{program}```\n")),
        "README.md has another program than examples/first.rs"
    );
    first::main().unwrap();
    std::fs::remove_file(std::env::temp_dir().join("adamw.safetensors")).unwrap();
}
