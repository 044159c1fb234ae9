/*
 * Loaded into linux.uml on hosts whose CPUs have more state than the lab kernel knows (AMX: 11,008 bytes).
 *
 * User-Mode Linux 6.1 keeps 2,696 bytes of a process's XSAVE area. PTRACE_GETREGSET fills as much as it is given, but
 * PTRACE_SETREGSET wants the whole area of the host or fails with EFAULT (arch/x86/kernel/fpu/regset.c,
 * xstateregs_set), and the guest's first process is killed. So the short area is handed on in front of zeroes: the
 * parts behind it are those that no process has without asking for them (arch_prctl ARCH_REQ_XCOMP_PERM).
 *
 * Built without a C library's headers: gcc -shared -fPIC -nostdlib.
 */

typedef unsigned long word;

enum { SYS_PTRACE = 101, EFAULT = 14, PEEK_FIRST = 1, PEEK_LAST = 3 };
enum { GETREGSET = 0x4204, SETREGSET = 0x4205, NT_X86_XSTATE = 0x202, LARGEST = 1 << 16 };

struct iovec {
	void *base;
	word length;
};

extern int *__errno_location(void);

static unsigned char area[LARGEST];
static word whole; /* the host's size, once it was needed */

static long system_ptrace(long request, long pid, void *address, void *data)
{
	long result;
	register void *fourth __asm__("r10") = data;

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "0"((long)SYS_PTRACE), "D"(request), "S"(pid), "d"(address), "r"(fourth)
			 : "rcx", "r11", "memory");
	return result;
}

static long set_whole(long pid, void *address, const struct iovec *given)
{
	struct iovec full = { area, LARGEST };
	const unsigned char *from = given->base;
	word at;

	if (!whole) {
		long result = system_ptrace(GETREGSET, pid, address, &full);

		if (result < 0)
			return result;
		whole = full.length;
		for (at = 0; at < LARGEST; at++)
			area[at] = 0;
	}
	if (given->length >= whole)
		return -EFAULT;
	for (at = 0; at < given->length; at++)
		area[at] = from[at];
	full.length = whole;
	return system_ptrace(SETREGSET, pid, address, &full);
}

long ptrace(long request, long pid, void *address, void *data)
{
	long peeked, result;
	int peeks = request >= PEEK_FIRST && request <= PEEK_LAST;

	if (request == SETREGSET && (word)address == NT_X86_XSTATE && whole)
		result = set_whole(pid, address, data);
	else
		result = system_ptrace(request, pid, address, peeks ? &peeked : data);
	if (result == -EFAULT && request == SETREGSET && (word)address == NT_X86_XSTATE)
		result = set_whole(pid, address, data);
	if (result < 0) {
		*__errno_location() = (int)-result;
		return -1;
	}
	return peeks ? peeked : result;
}
