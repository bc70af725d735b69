//! What instructions of a program show, where no text does: Intel 64 and IA-32 Architectures Software Developer's Manual
//! (325462-090US), volume 2.

use memchr::memmem;

/// Returns the offsets of the variables that the code of `program` sets to `value`: `mov dword [rip + disp32], imm32`.
pub(super) fn variables_set_to(program: &[u8], value: u32) -> impl Iterator<Item = usize> {
    const MOVE: [u8; 2] = [0xc7, 0x05];
    let value = value.to_le_bytes();
    let places: alloc::vec::Vec<usize> = memmem::find_iter(program, &value).collect();
    places.into_iter().filter_map(move |place| {
        let displacement = place.checked_sub(DISPLACEMENT)?;
        let opcode = displacement.checked_sub(MOVE.len())?;
        let target = target(program, displacement, place + value.len())?;
        (program[opcode..displacement] == MOVE).then_some(target)
    })
}

/// Returns whether code that takes the address of `target` loads `value` into a register right before or after:
/// `lea reg64, [rip + disp32]` and `mov reg32, imm32`.
pub(super) fn loads_beside(program: &[u8], target_offset: usize, value: u32) -> bool {
    const LOAD_ADDRESS: u8 = 0x8d;
    let value = value.to_le_bytes();
    memmem::find_iter(program, &[LOAD_ADDRESS])
        .filter(|opcode| {
            let displacement = opcode + 2;
            target(program, displacement, displacement + DISPLACEMENT) == Some(target_offset)
        })
        .any(|opcode| {
            let near = opcode.saturating_sub(BESIDE)..(opcode + BESIDE).min(program.len());
            let mut words = program[near].windows(1 + value.len());
            words.any(|word| (0xb8..=0xbf).contains(&word[0]) && word[1..] == value)
        })
}

/// How far apart, in bytes, the instructions are that prepare the arguments of one call.
const BESIDE: usize = 32;

const DISPLACEMENT: usize = size_of::<i32>();

/// Returns what the displacement at this offset means in an instruction that ends at `end`, if that is in the program.
fn target(program: &[u8], displacement: usize, end: usize) -> Option<usize> {
    let distance = i32::from_le_bytes(*program.get(displacement..)?.first_chunk()?);
    let target = end.checked_add_signed(distance as isize)?;
    (target < program.len()).then_some(target)
}
