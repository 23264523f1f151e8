"""C and Zcb: each halfword has the effect of its 32-bit instruction.

The pairs are the output of LLVM's assembler for a line with and without the extension.
"""

import pytest
from guest import DATA, TEXT, Guest

PAIRS = [
    (0x0220, 0x10810413),  # addi s0, sp, 264
    (0x0514, 0x28010693),  # addi a3, sp, 640
    (0x0958, 0x09410713),  # addi a4, sp, 148
    (0x0A10, 0x11010613),  # addi a2, sp, 272
    (0x0C7C, 0x21C10793),  # addi a5, sp, 540
    (0x0E34, 0x31810693),  # addi a3, sp, 792
    (0x0F50, 0x39410613),  # addi a2, sp, 916
    (0x1388, 0x1E010513),  # addi a0, sp, 480
    (0x2A6C, 0x0D063587),  # fld fa1, 208(a2)
    (0x2DF8, 0x0D85B707),  # fld fa4, 216(a1)
    (0x2EC4, 0x0986B487),  # fld fs1, 152(a3)
    (0x3958, 0x0B053707),  # fld fa4, 176(a0)
    (0x4388, 0x0007A503),  # lw a0, 0(a5)
    (0x4E64, 0x05C62483),  # lw s1, 92(a2)
    (0x591C, 0x03052783),  # lw a5, 48(a0)
    (0x5C5C, 0x03C42783),  # lw a5, 60(s0)
    (0x6CE0, 0x0D84B403),  # ld s0, 216(s1)
    (0x7250, 0x0A063603),  # ld a2, 160(a2)
    (0x7844, 0x0B043483),  # ld s1, 176(s0)
    (0x7E88, 0x0386B503),  # ld a0, 56(a3)
    (0x8178, 0x00354703),  # lbu a4, 3(a0)
    (0x81C8, 0x0015C503),  # lbu a0, 1(a1)
    (0x83A8, 0x0027C503),  # lbu a0, 2(a5)
    (0x83C4, 0x0017C483),  # lbu s1, 1(a5)
    (0x8408, 0x00045503),  # lhu a0, 0(s0)
    (0x8470, 0x00241603),  # lh a2, 2(s0)
    (0x8488, 0x0004D503),  # lhu a0, 0(s1)
    (0x8564, 0x00251483),  # lh s1, 2(a0)
    (0x85C0, 0x00059403),  # lh s0, 0(a1)
    (0x85D8, 0x00059703),  # lh a4, 0(a1)
    (0x8634, 0x00265683),  # lhu a3, 2(a2)
    (0x87B0, 0x0027D603),  # lhu a2, 2(a5)
    (0x8A38, 0x00E60123),  # sb a4, 2(a2)
    (0x8A48, 0x00A600A3),  # sb a0, 1(a2)
    (0x8BB4, 0x00D78123),  # sb a3, 2(a5)
    (0x8C18, 0x00E41023),  # sh a4, 0(s0)
    (0x8D00, 0x00851023),  # sh s0, 0(a0)
    (0x8D94, 0x00D59023),  # sh a3, 0(a1)
    (0x8F90, 0x00C79023),  # sh a2, 0(a5)
    (0xA168, 0x0CA53027),  # fsd fa0, 192(a0)
    (0xABDC, 0x08F7B827),  # fsd fa5, 144(a5)
    (0xACB0, 0x04C4BC27),  # fsd fa2, 88(s1)
    (0xBEDC, 0x0AF6BC27),  # fsd fa5, 184(a3)
    (0xC6BC, 0x04F6A423),  # sw a5, 72(a3)
    (0xCAEC, 0x04B6AA23),  # sw a1, 84(a3)
    (0xCE98, 0x00E6AC23),  # sw a4, 24(a3)
    (0xDF5C, 0x02F72E23),  # sw a5, 60(a4)
    (0xE6D4, 0x08D6B423),  # sd a3, 136(a3)
    (0xF348, 0x0AA73023),  # sd a0, 160(a4)
    (0xF648, 0x0AA63423),  # sd a0, 168(a2)
    (0xFC24, 0x06943C23),  # sd s1, 120(s0)
    (0x0001, 0x00000013),  # nop
    (0x0141, 0x01010113),  # addi sp, sp, 16
    (0x0285, 0x00128293),  # addi t0, t0, 1
    (0x097D, 0x01F90913),  # addi s2, s2, 31
    (0x1141, 0xFF010113),  # addi sp, sp, -16
    (0x1181, 0xFE018193),  # addi gp, gp, -32
    (0x1801, 0xFE080813),  # addi a6, a6, -32
    (0x2185, 0x0011819B),  # addiw gp, gp, 1
    (0x22FD, 0x01F2829B),  # addiw t0, t0, 31
    (0x2901, 0x0009091B),  # addiw s2, s2, 0
    (0x383D, 0xFEF8081B),  # addiw a6, a6, -17
    (0x4E1D, 0x00700E13),  # li t3, 7
    (0x5A3D, 0xFEF00A13),  # li s4, -17
    (0x5D01, 0xFE000D13),  # li s10, -32
    (0x5FFD, 0xFFF00F93),  # li t6, -1
    (0x6105, 0x02010113),  # addi sp, sp, 32
    (0x6305, 0x00001337),  # lui t1, 1
    (0x6585, 0x000015B7),  # lui a1, 1
    (0x72FD, 0xFFFFF2B7),  # lui t0, 1048575
    (0x7F81, 0xFFFE0FB7),  # lui t6, 1048544
    (0x8205, 0x00165613),  # srli a2, a2, 1
    (0x837D, 0x01F75713),  # srli a4, a4, 31
    (0x887D, 0x01F47413),  # andi s0, s0, 31
    (0x8A9D, 0x0076F693),  # andi a3, a3, 7
    (0x8C39, 0x00E44433),  # xor s0, s0, a4
    (0x8D9D, 0x40F585B3),  # sub a1, a1, a5
    (0x8E09, 0x40A60633),  # sub a2, a2, a0
    (0x8E29, 0x00A64633),  # xor a2, a2, a0
    (0x8E35, 0x00D64633),  # xor a2, a2, a3
    (0x8E51, 0x00C66633),  # or a2, a2, a2
    (0x8E5D, 0x00F66633),  # or a2, a2, a5
    (0x8E85, 0x409686B3),  # sub a3, a3, s1
    (0x8EE9, 0x00A6F6B3),  # and a3, a3, a0
    (0x8EFD, 0x00F6F6B3),  # and a3, a3, a5
    (0x8F65, 0x00977733),  # and a4, a4, s1
    (0x8F8D, 0x40B787B3),  # sub a5, a5, a1
    (0x8FA9, 0x00A7C7B3),  # xor a5, a5, a0
    (0x8FD5, 0x00D7E7B3),  # or a5, a5, a3
    (0x8FDD, 0x00F7E7B3),  # or a5, a5, a5
    (0x8FFD, 0x00F7F7B3),  # and a5, a5, a5
    (0x927D, 0x03F65613),  # srli a2, a2, 63
    (0x92FD, 0x03F6D693),  # srli a3, a3, 63
    (0x947D, 0x43F45413),  # srai s0, s0, 63
    (0x9481, 0x4204D493),  # srai s1, s1, 32
    (0x9781, 0x4207D793),  # srai a5, a5, 32
    (0x9901, 0xFE057513),  # andi a0, a0, -32
    (0x9ABD, 0xFEF6F693),  # andi a3, a3, -17
    (0x9C65, 0x60441413),  # sext.b s0, s0
    (0x9C69, 0x0804443B),  # zext.h s0, s0
    (0x9C81, 0x408484BB),  # subw s1, s1, s0
    (0x9CE1, 0x0FF4F493),  # zext.b s1, s1
    (0x9CE5, 0x60449493),  # sext.b s1, s1
    (0x9D21, 0x0085053B),  # addw a0, a0, s0
    (0x9D31, 0x00C5053B),  # addw a0, a0, a2
    (0x9D45, 0x02950533),  # mul a0, a0, s1
    (0x9D69, 0x0805453B),  # zext.h a0, a0
    (0x9D8D, 0x40B585BB),  # subw a1, a1, a1
    (0x9DE1, 0x0FF5F593),  # zext.b a1, a1
    (0x9DE5, 0x60459593),  # sext.b a1, a1
    (0x9DE9, 0x0805C5BB),  # zext.h a1, a1
    (0x9E11, 0x40C6063B),  # subw a2, a2, a2
    (0x9E41, 0x02860633),  # mul a2, a2, s0
    (0x9E55, 0x02D60633),  # mul a2, a2, a3
    (0x9E61, 0x0FF67613),  # zext.b a2, a2
    (0x9E69, 0x0806463B),  # zext.h a2, a2
    (0x9E71, 0x0806063B),  # zext.w a2, a2
    (0x9EA1, 0x008686BB),  # addw a3, a3, s0
    (0x9ED9, 0x02E686B3),  # mul a3, a3, a4
    (0x9EE1, 0x0FF6F693),  # zext.b a3, a3
    (0x9EE5, 0x60469693),  # sext.b a3, a3
    (0x9EED, 0x60569693),  # sext.h a3, a3
    (0x9EF1, 0x080686BB),  # zext.w a3, a3
    (0x9EF5, 0xFFF6C693),  # not a3, a3
    (0x9F6D, 0x60571713),  # sext.h a4, a4
    (0x9F71, 0x0807073B),  # zext.w a4, a4
    (0x9F9D, 0x40F787BB),  # subw a5, a5, a5
    (0x9FB9, 0x00E787BB),  # addw a5, a5, a4
    (0x9FED, 0x60579793),  # sext.h a5, a5
    (0x9FF5, 0xFFF7C793),  # not a5, a5
    (0xA041, 0x0800006F),  # jal zero, 128
    (0xA081, 0x0400006F),  # jal zero, 64
    (0xA101, 0x4000006F),  # jal zero, 1024
    (0xA201, 0x1000006F),  # jal zero, 256
    (0xA401, 0x2000006F),  # jal zero, 512
    (0xA801, 0x0100006F),  # jal zero, 16
    (0xAFFD, 0x7FE0006F),  # jal zero, 2046
    (0xB001, 0x801FF06F),  # jal zero, -2048
    (0xB7C5, 0xFE1FF06F),  # jal zero, -32
    (0xBFFD, 0xFFFFF06F),  # jal zero, -2
    (0xC241, 0x08060063),  # beq a2, zero, 128
    (0xC3A1, 0x04078063),  # beq a5, zero, 64
    (0xC501, 0x00050463),  # beq a0, zero, 8
    (0xCA01, 0x00060863),  # beq a2, zero, 16
    (0xCC7D, 0x0E040F63),  # beq s0, zero, 254
    (0xD0E5, 0xFE0480E3),  # beq s1, zero, -32
    (0xD201, 0xF00600E3),  # beq a2, zero, -256
    (0xDF7D, 0xFE070FE3),  # beq a4, zero, -2
    (0xE141, 0x08051063),  # bne a0, zero, 128
    (0xE2A1, 0x04069063),  # bne a3, zero, 64
    (0xE701, 0x00071463),  # bne a4, zero, 8
    (0xEB81, 0x00079863),  # bne a5, zero, 16
    (0xEF7D, 0x0E071F63),  # bne a4, zero, 254
    (0xF265, 0xFE0610E3),  # bne a2, zero, -32
    (0xF381, 0xF00790E3),  # bne a5, zero, -256
    (0xFDFD, 0xFE059FE3),  # bne a1, zero, -2
    (0x0986, 0x00199993),  # slli s3, s3, 1
    (0x0C7E, 0x01FC1C13),  # slli s8, s8, 31
    (0x1802, 0x02081813),  # slli a6, a6, 32
    (0x1A02, 0x020A1A13),  # slli s4, s4, 32
    (0x21CA, 0x09013187),  # fld ft3, 144(sp)
    (0x28A2, 0x00813887),  # fld fa7, 8(sp)
    (0x388E, 0x0E013887),  # fld fa7, 224(sp)
    (0x38A6, 0x06813887),  # fld fa7, 104(sp)
    (0x4F42, 0x01012F03),  # lw t5, 16(sp)
    (0x50F2, 0x03C12083),  # lw ra, 60(sp)
    (0x5316, 0x06412303),  # lw t1, 100(sp)
    (0x598E, 0x0E012983),  # lw s3, 224(sp)
    (0x6B1E, 0x1C013B03),  # ld s6, 448(sp)
    (0x6FBA, 0x18813F83),  # ld t6, 392(sp)
    (0x7A6A, 0x0B813A03),  # ld s4, 184(sp)
    (0x7D7E, 0x1F813D03),  # ld s10, 504(sp)
    (0x8082, 0x00008067),  # jr ra
    (0x81EA, 0x000D0193),  # mv gp, s10
    (0x8502, 0x00050067),  # jr a0
    (0x8B7A, 0x000F0B13),  # mv s6, t5
    (0x8FCE, 0x00098F93),  # mv t6, s3
    (0x8FFE, 0x000F8F93),  # mv t6, t6
    (0x9002, 0x00100073),  # ebreak
    (0x9302, 0x000300E7),  # jalr t1
    (0x9352, 0x01430333),  # add t1, t1, s4
    (0x98AE, 0x00B888B3),  # add a7, a7, a1
    (0x98B2, 0x00C888B3),  # add a7, a7, a2
    (0x993E, 0x00F90933),  # add s2, s2, a5
    (0xA0A2, 0x04813027),  # fsd fs0, 64(sp)
    (0xAE46, 0x11113C27),  # fsd fa7, 280(sp)
    (0xB80E, 0x02313827),  # fsd ft3, 48(sp)
    (0xBF0E, 0x1A313C27),  # fsd ft3, 440(sp)
    (0xC42A, 0x00A12423),  # sw a0, 8(sp)
    (0xCB22, 0x08812A23),  # sw s0, 148(sp)
    (0xCEA2, 0x04812E23),  # sw s0, 92(sp)
    (0xD4AE, 0x06B12423),  # sw a1, 104(sp)
    (0xE116, 0x08513023),  # sd t0, 128(sp)
    (0xE50A, 0x08213423),  # sd sp, 136(sp)
    (0xF456, 0x03513423),  # sd s5, 40(sp)
    (0xF732, 0x1AC13423),  # sd a2, 424(sp)
]

MIDDLE = TEXT + 0x2000


def after_one(word: int, zeros: bool) -> tuple[object, ...]:
    """Registers, the jump target (0: the next instruction), memory, the exception."""
    guest = Guest()
    size = 4 if word & 3 == 3 else 2
    guest.space.write(MIDDLE, word.to_bytes(size, "little"), force=True)
    guest.space.write(DATA, bytes(range(256)) * 64)
    hart = guest.hart
    hart.pc = MIDDLE
    for i in range(32):
        low = 0 if zeros and 8 <= i < 16 else 0x80 + i
        hart.set_x(i, 0 if low == 0 else DATA + 0x1000 + low * 8)
        hart.set_f(i, 0x3FF00000_00000000 + i * 0x01234567_89ABCDEF)
    stop = guest.run(budget=1)
    registers = hart.regs()
    if registers[1] == MIDDLE + size:
        registers[1] = MIDDLE  # jalr's link
    floats = [hart.f(i) for i in range(32)]
    delta = hart.pc - MIDDLE
    memory = guest.space.read(DATA, 0x4000)
    return stop, registers, floats, 0 if delta == size else delta, memory, hart.fault()[:2]


@pytest.mark.parametrize(("half", "word"), PAIRS, ids=[f"{half:04x}" for half, _ in PAIRS])
def test_pair(half: int, word: int) -> None:
    assert after_one(half, zeros=False) == after_one(word, zeros=False)
    if word & 0x7F == 0x63:
        assert after_one(half, zeros=True) == after_one(word, zeros=True)


RESERVED = {
    "c.addi4spn 0": [0x0000, 0x0004, 0x001C],
    "c.addiw x0": [0x2001, 0x2005, 0x3001],
    "c.lui 0": [0x6001, 0x6201, 0x6801],
    "c.addi16sp 0": [0x6101],
    "c.lwsp x0": [0x4002, 0x507E],
    "c.ldsp x0": [0x6002],
    "c.jr x0": [0x8002],
    "reserved of quadrant 1": [0x9C79, 0x9C7D],
    "reserved of quadrant 0": [0x8C40, 0x9C00],
}


@pytest.mark.parametrize("half", [half for halves in RESERVED.values() for half in halves])
def test_reserved(half: int) -> None:
    assert Guest([half]).fault()[:3] == (2, half, half)


@pytest.mark.parametrize("half", [0x0001, 0x4001, 0x6005, 0x0002, 0x8006, 0x9006])
def test_hints_do_nothing(half: int) -> None:
    guest = Guest([half], x={i: i for i in range(32)})
    guest.run(budget=1)
    assert guest.hart.regs() == list(range(32))
    assert guest.hart.pc == TEXT + 2
