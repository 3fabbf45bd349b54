/*
 * The peer of `./dev bench exits`: the least that a VMM can do. Loads a guest's ELF, starts it by
 * its PVH note, and answers exits from a switch, with no device behind it. Prints the wall time of
 * each of the guest's phases as JSON:
 *
 *	exits-loop GUEST.elf 'COMMAND LINE'
 *	{"exits":500123,"phases":[{"code":192,"seconds":0.81},...]}
 *
 * A phase lies between the debug-port codes c and c + 1 (c even, 0xc0 and above). KVM is set up as
 * chv sets it up where it bears on an exit: split irqchip, one vCPU, the host's CPUID. ABI:
 * <linux/kvm.h>, <elf.h>, and Xen's docs/misc/pvh.pandoc for the state at entry.
 */
#include <elf.h>
#include <err.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define RAM_SIZE (64ul << 20)
#define START_INFO 0x6000
#define COMMAND_LINE 0x7000
#define PVH_ENTRY_NOTE 18 /* XEN_ELFNOTE_PHYS32_ENTRY */

static uint8_t *ram;

static int call(int fd, unsigned long request, void *argument, const char *name)
{
	int result = ioctl(fd, request, argument);
	if (result < 0)
		err(1, "%s", name);
	return result;
}
#define CALL(fd, request, argument) call(fd, request, (void *)(argument), #request)

/*
 * Copies the segments into RAM; gives the entry that the PVH note names. Trusts the file: it is our
 * own.
 */
static uint32_t load(const char *path)
{
	int fd = open(path, O_RDONLY);
	struct stat status;
	if (fd < 0 || fstat(fd, &status) < 0)
		err(1, "%s", path);
	uint8_t *file = mmap(0, status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (file == MAP_FAILED)
		err(1, "mmap %s", path);
	Elf64_Ehdr *header = (Elf64_Ehdr *)file;
	Elf64_Phdr *segment = (Elf64_Phdr *)(file + header->e_phoff);
	uint32_t entry = 0;
	for (int i = 0; i < header->e_phnum; i++, segment++) {
		if (segment->p_type == PT_LOAD)
			memcpy(ram + segment->p_paddr, file + segment->p_offset, segment->p_filesz);
		Elf64_Nhdr *note = (Elf64_Nhdr *)(file + segment->p_offset);
		if (segment->p_type == PT_NOTE && note->n_type == PVH_ENTRY_NOTE)
			memcpy(&entry, (uint8_t *)(note + 1) + ((note->n_namesz + 3) & ~3u), 4);
	}
	if (!entry)
		errx(1, "%s has no PVH note", path);
	return entry;
}

/* hvm_start_info, version 0: the guest needs its command line and no more. */
static void describe(const char *command_line)
{
	uint32_t words[2] = { 0x336ec578, 0 };
	uint64_t address = COMMAND_LINE;
	memcpy(ram + START_INFO, words, sizeof(words));
	memcpy(ram + START_INFO + 24, &address, sizeof(address));
	strcpy((char *)ram + COMMAND_LINE, command_line);
}

static void set_state(int kvm, int vcpu, uint32_t entry)
{
	struct kvm_cpuid2 *cpuid = calloc(1, sizeof(*cpuid) + 256 * sizeof(cpuid->entries[0]));
	cpuid->nent = 256;
	CALL(kvm, KVM_GET_SUPPORTED_CPUID, cpuid);
	CALL(vcpu, KVM_SET_CPUID2, cpuid);
	free(cpuid);

	struct kvm_segment code = { .limit = 0xffffffff, .selector = 8, .type = 0xb, .present = 1 };
	code.db = code.s = code.g = 1;
	struct kvm_segment data = code, task = { .limit = 0x67, .type = 0xb, .present = 1 };
	data.type = 3;
	data.selector = 16;
	struct kvm_sregs sregs;
	CALL(vcpu, KVM_GET_SREGS, &sregs);
	sregs.cs = code;
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data;
	sregs.tr = task;
	sregs.cr0 = 0x11; /* PE, ET */
	sregs.cr3 = sregs.cr4 = sregs.efer = 0;
	CALL(vcpu, KVM_SET_SREGS, &sregs);
	struct kvm_regs regs = { .rip = entry, .rbx = START_INFO, .rflags = 2 };
	CALL(vcpu, KVM_SET_REGS, &regs);
}

static double now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec * 1e-9;
}

/* A code on the debug port. */
static void mark(uint8_t code)
{
	static double start;
	static int any;
	double time = now();
	if (code < 0xc0)
		return;
	if (code % 2 == 0) {
		start = time;
		return;
	}
	printf("%s{\"code\":%d,\"seconds\":%.9f}", any ? "," : "", code - 1, time - start);
	any = 1;
}

/* Answers a port access; 0 when the guest powered off. */
static int serve_port(struct kvm_run *run)
{
	uint8_t *data = (uint8_t *)run + run->io.data_offset;
	if (run->io.direction == KVM_EXIT_IO_IN) {
		memset(data, run->io.port == 0x3fd ? 0x60 : 0, run->io.size * run->io.count);
		return 1;
	}
	if (run->io.port == 0x80)
		mark(*data);
	return run->io.port != 0x600;
}

int main(int argc, char **argv)
{
	if (argc != 3 || strlen(argv[2]) > 4095)
		errx(1, "usage: exits-loop GUEST.elf 'COMMAND LINE'");
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm < 0)
		err(1, "/dev/kvm");
	int vm = CALL(kvm, KVM_CREATE_VM, 0);
	CALL(vm, KVM_SET_TSS_ADDR, 0xfeffd000);
	struct kvm_enable_cap split = { .cap = KVM_CAP_SPLIT_IRQCHIP, .args = { 24 } };
	CALL(vm, KVM_ENABLE_CAP, &split);
	ram = mmap(0, RAM_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (ram == MAP_FAILED)
		err(1, "mmap of guest RAM");
	struct kvm_userspace_memory_region region = { .memory_size = RAM_SIZE };
	region.userspace_addr = (uint64_t)ram;
	CALL(vm, KVM_SET_USER_MEMORY_REGION, &region);
	uint32_t entry = load(argv[1]);
	describe(argv[2]);
	int vcpu = CALL(vm, KVM_CREATE_VCPU, 0);
	int run_size = CALL(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	struct kvm_run *run = mmap(0, run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	if (run == MAP_FAILED)
		err(1, "mmap of the vCPU");
	set_state(kvm, vcpu, entry);

	uint64_t exits = 0;
	printf("{\"phases\":[");
	for (int running = 1; running; exits++) {
		if (ioctl(vcpu, KVM_RUN, 0) < 0)
			err(1, "KVM_RUN");
		if (run->exit_reason == KVM_EXIT_IO)
			running = serve_port(run);
		else if (run->exit_reason == KVM_EXIT_MMIO)
			memset(run->mmio.data, 0, sizeof(run->mmio.data));
		else
			errx(1, "exit reason %u", run->exit_reason);
	}
	printf("],\"exits\":%llu}\n", (unsigned long long)exits);
	return 0;
}
