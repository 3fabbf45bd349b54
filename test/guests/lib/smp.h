/*
 * Application processors: started with INIT and SIPI (Intel SDM volume 3, section 9.4), each then
 * halted until a function is sent to it. Processors are numbered in the order in which they came
 * up; 0 is the one that booted.
 */
#ifndef SMP_H
#define SMP_H
#include "io.h"

#define MAX_CPUS 255

/*
 * Starts the processors with APIC ids 1..count-1, or, with `ipi=broadcast` on the command line, all
 * others by one INIT and one SIPI, whatever their ids; gives the number that runs after all came up
 * or a wait ended. Does nothing a second time.
 */
u32 smp_start(u32 count);
u32 smp_apic_id(u32 cpu);
/*
 * Runs `function(cpu)` on a started processor; smp_wait waits for its end and says whether it came.
 */
void smp_call(u32 cpu, void (*function)(u32 cpu));
int smp_wait(u32 cpu);

#endif
