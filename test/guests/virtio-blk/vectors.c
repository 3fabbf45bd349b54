/* Interrupts: MSI-X, its masks while requests are on their way, and the pin. */
#include "disk.h"
#include "../lib/apic.h"
#include "../lib/boot.h"
#include "../lib/interrupts.h"
#include "../lib/virtio-pci.h"

#define SIZE 16

/* `count` calls for `count` requests, one at a time; each is wanted before the request. */
static void one_by_one(u32 count)
{
	for (u32 i = 0; i < count && !failing(); i++) {
		u32 before = disk.calls[1];
		virtqueue_want_call(&queues[0]);
		expect("status", disk_do(BLK_IN, i, data, SECTOR), BLK_OK);
		expect("a call", WAIT(disk.calls[1] != before), 1);
		expect("one", disk.calls[1], before + 1);
	}
	expect("none for the configuration", disk.calls[0], 0);
}

TEST(msix, "interrupts-msix")
{
	if (!disk_start_by(BY_MSIX, VIRTIO_ANY, 1, SIZE))
		return;
	interrupts_on();
	one_by_one(20);
	interrupts_off();
	disk_stop();
}

TEST(pin, "interrupts-pin")
{
	if (!disk_start_by(BY_PIN, VIRTIO_ANY, 1, SIZE))
		return;
	interrupts_on();
	one_by_one(20);
	interrupts_off();

	virtqueue_want_call(&queues[0]);
	expect("status", disk_do(BLK_IN, 3, data, SECTOR), BLK_OK);
	expect("pending in the ISR", WAIT(disk.transport->isr(&disk) == 1), 1);
	expect("which that took back", disk.transport->isr(&disk), 0);
	linger();
	interrupts_on();
	linger();
	interrupts_off();
	disk_stop();
	expect("works after a reset", disk_start_by(BY_PIN, VIRTIO_ANY, 1, SIZE), 1);
	interrupts_on();
	one_by_one(3);
	interrupts_off();
	disk_stop();
}

/* A reset takes a pending interrupt back: the pin is down, and stays so. */
TEST(pin_reset, "interrupts-pin-reset")
{
	if (!disk_start_by(BY_PIN, VIRTIO_ANY, 1, SIZE))
		return;
	virtqueue_want_call(&queues[0]);
	ioapic_mask(disk.pin);
	expect("status", disk_do(BLK_IN, 3, data, SECTOR), BLK_OK);
	linger();
	virtio_reset(&disk);
	expect("nothing is pending", disk.transport->isr(&disk), 0);
	ioapic_route(disk.pin, ioapic_low(disk.pin) & ~RTE_MASKED, 0);
	interrupts_on();
	linger();
	interrupts_off();
	expect("no call", disk.calls[1], 0);
	disk_stop();
}

/* Both interrupts of a function that has neither enabled: nothing comes. */
TEST(intx_disable, "interrupts-intx-disabled")
{
	if (!disk_start_by(BY_PIN, VIRTIO_ANY, 1, SIZE))
		return;
	u16 command = pci_read16(disk.slot, PCI_COMMAND);
	pci_write16(disk.slot, PCI_COMMAND, command | PCI_COMMAND_NO_INTX);
	interrupts_on();
	virtqueue_want_call(&queues[0]);
	expect("status", disk_do(BLK_IN, 3, data, SECTOR), BLK_OK);
	expect("shown in the status",
	       WAIT(pci_read16(disk.slot, PCI_STATUS) & PCI_STATUS_INTERRUPT), 1);
	linger();
	expect("no call", disk.calls[1], 0);
	pci_write16(disk.slot, PCI_COMMAND, command);
	expect("which comes now", WAIT(disk.calls[1] == 1), 1);
	interrupts_off();
	disk_stop();
}

static void mask_vector(int masked)
{
	virtio_mask_vector(&disk, 1, masked);
}

static void mask_function(int masked)
{
	virtio_mask_function(&disk, masked);
}

static void masked_by(void (*mask)(int masked))
{
	if (!disk_start_by(BY_MSIX, VIRTIO_ANY, 1, SIZE))
		return;
	interrupts_on();
	one_by_one(1);
	for (u32 i = 0; i < 10 && !failing(); i++) {
		u32 before = disk.calls[1];
		mask(1);
		expect("not pending", virtio_vector_pending(&disk, 1), 0);
		virtqueue_want_call(&queues[0]);
		expect("status", disk_do(BLK_IN, i, data, SECTOR), BLK_OK);
		expect("pending", WAIT(virtio_vector_pending(&disk, 1)), 1);
		expect("no call", disk.calls[1], before);
		mask(0);
		expect("it comes", WAIT(disk.calls[1] == before + 1), 1);
		expect("pending no more", virtio_vector_pending(&disk, 1), 0);
	}
	one_by_one(2);
	interrupts_off();
	disk_stop();
}

TEST(vector_mask, "msix-mask-vector")
{
	masked_by(mask_vector);
}

TEST(function_mask, "msix-mask-function")
{
	masked_by(mask_function);
}

/*
 * Masking and unmasking at any time while requests come and go: every request is answered, and a
 * call that was wanted comes when the mask is off, at the latest.
 */
static void under_load(void (*mask)(int masked))
{
	static struct request requests[SIZE];
	if (!disk_start_by(BY_MSIX, VIRTIO_ANY, 1, SIZE))
		return;
	interrupts_on();
	u32 rounds = argument_number("rounds", 40);
	for (u32 round = 0; round < rounds && !failing(); round++) {
		u32 before = disk.calls[1];
		virtqueue_want_call(&queues[0]);
		for (u32 i = 0; i < SIZE; i++) {
			disk_offer(&queues[0], &requests[i], BLK_IN, round + i, data + i * SECTOR, SECTOR);
			virtqueue_kick(&queues[0]);
			if (i % 4 == round % 4)
				mask(1);
			if (i % 4 == 3)
				mask(0);
		}
		mask(0);
		for (u32 i = 0; i < SIZE; i++)
			expect("an answer", virtqueue_wait(&queues[0], 0) >= 0, 1);
		expect("a call", WAIT(disk.calls[1] != before), 1);
		for (u32 i = 0; i < SIZE; i++)
			expect("data", as_filled(data + i * SECTOR, round + i, 1), 1);
	}
	interrupts_off();
	disk_stop();
}

TEST(vector_load, "msix-mask-vector-load")
{
	under_load(mask_vector);
}

TEST(function_load, "msix-mask-function-load")
{
	under_load(mask_function);
}

/* A vector can be sent elsewhere while it is masked: what was pending goes the new way. */
TEST(retarget, "msix-retarget")
{
	if (!disk_start_by(BY_MSIX, VIRTIO_ANY, 1, SIZE))
		return;
	mask_vector(1);
	virtqueue_want_call(&queues[0]);
	expect("status", disk_do(BLK_IN, 3, data, SECTOR), BLK_OK);
	expect("pending", WAIT(virtio_vector_pending(&disk, 1)), 1);
	u64 entry = disk.msix_table + MSIX_ENTRY + MSIX_ENTRY_DATA;
	write32(entry, read32(entry) - 1); /* where vector 0 goes */
	mask_vector(0);
	interrupts_on();
	expect("the other vector's call", WAIT(disk.calls[0] == 1), 1);
	linger();
	expect("its own", disk.calls[1], 0);
	interrupts_off();
	disk_stop();
}
