/* Types, port and MMIO accessors, processor registers. Everything inline. */
#ifndef IO_H
#define IO_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;

#define PORT_ACCESSORS(suffix, type)                                                        \
	static inline type in##suffix(u16 port)                                             \
	{                                                                                   \
		type value;                                                                 \
		__asm__ volatile("in" #suffix " %1, %0" : "=a"(value) : "Nd"(port) : "memory"); \
		return value;                                                               \
	}                                                                                   \
	static inline void out##suffix(u16 port, type value)                                \
	{                                                                                   \
		__asm__ volatile("out" #suffix " %0, %1" : : "a"(value), "Nd"(port) : "memory"); \
	}                                                                                   \
	static inline void ins##suffix(u16 port, void *to, u64 count)                       \
	{                                                                                   \
		__asm__ volatile("rep ins" #suffix : "+D"(to), "+c"(count) : "d"(port) : "memory"); \
	}                                                                                   \
	static inline void outs##suffix(u16 port, const void *from, u64 count)              \
	{                                                                                   \
		__asm__ volatile("rep outs" #suffix : "+S"(from), "+c"(count) : "d"(port) : "memory"); \
	}
PORT_ACCESSORS(b, u8)
PORT_ACCESSORS(w, u16)
PORT_ACCESSORS(l, u32)
#undef PORT_ACCESSORS

/* One `mov` of exactly the width named: what the processor sees is what was written here. */
#define MMIO_ACCESSORS(bits, constraint)                                                    \
	static inline u##bits read##bits(u64 address)                                       \
	{                                                                                   \
		u##bits value;                                                              \
		__asm__ volatile("mov %1, %0"                                               \
				 : "=" constraint(value) : "m"(*(volatile u##bits *)address) : "memory"); \
		return value;                                                               \
	}                                                                                   \
	static inline void write##bits(u64 address, u##bits value)                          \
	{                                                                                   \
		__asm__ volatile("mov %1, %0"                                               \
				 : "=m"(*(volatile u##bits *)address) : constraint(value) : "memory"); \
	}
MMIO_ACCESSORS(8, "q")
MMIO_ACCESSORS(16, "r")
MMIO_ACCESSORS(32, "r")
MMIO_ACCESSORS(64, "r")
#undef MMIO_ACCESSORS

static inline u64 rdmsr(u32 msr)
{
	u32 low, high;
	__asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr) : "memory");
	return (u64)high << 32 | low;
}

static inline void wrmsr(u32 msr, u64 value)
{
	__asm__ volatile("wrmsr" : : "c"(msr), "a"((u32)value), "d"((u32)(value >> 32)) : "memory");
}

static inline u64 rdtsc(void)
{
	u32 low, high;
	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high) : : "memory");
	return (u64)high << 32 | low;
}

struct cpuid {
	u32 eax, ebx, ecx, edx;
};

static inline struct cpuid cpuid(u32 leaf, u32 subleaf)
{
	struct cpuid c;
	__asm__ volatile("cpuid"
			 : "=a"(c.eax), "=b"(c.ebx), "=c"(c.ecx), "=d"(c.edx) : "a"(leaf), "c"(subleaf));
	return c;
}

static inline void pause(void)
{
	__asm__ volatile("pause" : : : "memory");
}

/* Spin lock: 0 is free. */
static inline void lock(volatile u32 *word)
{
	u32 expected;
	do {
		while (*word)
			pause();
		expected = 0;
		__asm__ volatile("lock cmpxchgl %2, %1"
				 : "+a"(expected), "+m"(*word) : "r"(1) : "memory");
	} while (expected);
}

static inline void unlock(volatile u32 *word)
{
	__asm__ volatile("movl $0, %0" : "=m"(*word) : : "memory");
}

/* Adds atomically; gives the value before. */
static inline u32 fetch_add(volatile u32 *word, u32 value)
{
	__asm__ volatile("lock xaddl %0, %1" : "+r"(value), "+m"(*word) : : "memory");
	return value;
}

#endif
