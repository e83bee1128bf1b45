/* SPDX-License-Identifier: MIT */
/* usdt_args.h - where the arguments of a USDT probe are, as its note says and as <bpf/usdt.bpf.h> wants it */
#ifndef BHB_USDT_ARGS_H
#define BHB_USDT_ARGS_H

#include <stdint.h>

enum { BHB_USDT_ARGS = 12 };

enum bhb_usdt_type { BHB_USDT_CONST, BHB_USDT_REG, BHB_USDT_DEREF };

/* The values of libbpf's map __bpf_usdt_specs: struct __bpf_usdt_arg_spec and struct __bpf_usdt_spec. */
struct bhb_usdt_arg {
	uint64_t value; /* of a constant; what is added to the register */
	uint32_t type;
	int16_t reg; /* where it is in struct pt_regs, in bytes */
	uint8_t is_signed;
	int8_t shift; /* bits of 64 that are not its own */
};
struct bhb_usdt_spec {
	struct bhb_usdt_arg arg[BHB_USDT_ARGS];
	uint64_t cookie;
	int16_t n;
	uint16_t unused[3]; /* 0: specs are compared byte by byte */
};

/*
 * TEXT is the last string of a note of <sys/sdt.h>, of a program for MACHINE (EM_X86_64 or EM_AARCH64). Gives how
 * many arguments it has; or -EINVAL, and *BAD is the one that is not understood. *SPEC has no stray bytes.
 */
int bhb_usdt_args(unsigned machine, const char *text, struct bhb_usdt_spec *spec, const char **bad);

#endif
