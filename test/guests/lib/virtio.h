/*
 * A driver for virtio 1.2 devices, over virtio-pci (section 4.1) or virtio-mmio version 2 (section
 * 4.2): `transport=mmio` on the command line says the latter. The devices are then those that the
 * command line announces, in Linux's words: virtio_mmio.device=SIZE@ADDRESS:GSI.
 *
 *	struct virtio disk;
 *	static struct virtqueue queue;
 *	if (virtio_find(&disk, VIRTIO_BLOCK, 0) && virtio_start(&disk, VIRTIO_ANY, &queue, 1, 16)) {
 *		struct buffer out = { &header, sizeof(header) }, in = { &status, 1 };
 *		virtqueue_exchange(&queue, &out, 1, &in, 1);
 *	}
 */
#ifndef VIRTIO_H
#define VIRTIO_H
#include "virtqueue.h"

enum { VIRTIO_NET = 1, VIRTIO_BLOCK, VIRTIO_CONSOLE, VIRTIO_RNG, VIRTIO_BALLOON };

/* Device status (section 2.1). */
#define VIRTIO_ACKNOWLEDGE 1
#define VIRTIO_DRIVER 2
#define VIRTIO_DRIVER_OK 4
#define VIRTIO_FEATURES_OK 8
#define VIRTIO_NEEDS_RESET 64
#define VIRTIO_FAILED 128
#define VIRTIO_LIVE 15

#define VIRTIO_F_INDIRECT_DESC (1ul << 28)
#define VIRTIO_F_EVENT_IDX (1ul << 29)
#define VIRTIO_F_VERSION_1 (1ul << 32)
/* Everything that is offered. */
#define VIRTIO_ANY (~0ul)

#define VIRTIO_QUEUES 18

/* How the device tells the guest of used buffers and of changes. */
enum virtio_interrupts { BY_POLLING, BY_MSIX, BY_PIN };

struct virtio {
	const struct virtio_transport *transport;
	u32 type;
	/* PCI: device number on bus 0, which BAR, and where its capabilities say that things are. */
	u32 slot, bar;
	u64 common, notify, isr;
	u32 notify_multiplier;
	u64 msix_table, msix_pending;
	u32 msix_capability, vectors;
	/* mmio: the page. */
	u64 page;
	/* Configuration space. */
	u64 config;
	/* The pin of the IOAPIC, or 0. */
	u32 pin;
	/* What was offered, and what of it was accepted. */
	u64 offered, features;
	/* Chosen before virtio_start; `cpu` is the APIC id that interrupts go to. */
	enum virtio_interrupts by;
	u32 cpu;
	/*
	 * Interrupts that came: [0] for changes of configuration, [1 + n] for queue n. By the pin all
	 * queues count in [1].
	 */
	volatile u32 calls[VIRTIO_QUEUES + 1];
};

/* What a transport has to do; `index` is a queue's number. */
struct virtio_transport {
	/* Finds the nth device of the type and makes its registers answer. */
	int (*find)(struct virtio *device, u32 type, u32 nth);
	u32 (*status)(struct virtio *device);
	void (*set_status)(struct virtio *device, u32 status);
	u64 (*features)(struct virtio *device);
	void (*set_features)(struct virtio *device, u64 features);
	/* The most entries of a queue; 0 when there is no such queue. */
	u32 (*queue_most)(struct virtio *device, u32 index);
	void (*set_queue)(struct virtio *device, u32 index, struct virtqueue *queue);
	u32 (*generation)(struct virtio *device);
	/* The interrupt status, which that takes back: bit 0 for queues, bit 1 for the configuration. */
	u32 (*isr)(struct virtio *device);
	/* MSI-X: vector `vector` of the device delivers `data` to `cpu`; whether the device took it. */
	int (*set_vector)(struct virtio *device, u32 vector, u32 cpu, u8 data);
	/* Turns MSI-X off. */
	void (*no_vectors)(struct virtio *device);
};
extern const struct virtio_transport virtio_pci, virtio_mmio;

/* The nth device of a type, in the order of slots or addresses; 0 when there is none. */
int virtio_find(struct virtio *device, u32 type, u32 nth);

/*
 * From a reset to DRIVER_OK: accepts what is offered of `wanted`, with VERSION_1; the first `count`
 * queues get up to `size` entries each. Whether the device went along.
 */
int virtio_start(struct virtio *device, u64 wanted, struct virtqueue *queues, u32 count, u32 size);

/* A reset, and no more interrupts. */
int virtio_stop(struct virtio *device);

/* The steps of virtio_start. The reset waits for status 0; interrupts are taken as `by` says. */
int virtio_reset(struct virtio *device);
int virtio_negotiate(struct virtio *device, u64 wanted);
int virtio_interrupts(struct virtio *device, u32 queues);
int virtio_queue(struct virtio *device, u32 index, struct virtqueue *queue, u32 size);
int virtio_ready(struct virtio *device);

static inline u32 virtio_status(struct virtio *device)
{
	return device->transport->status(device);
}

/* Masks or unmasks one vector of MSI-X, or all of them by the function mask; PCI alone. */
void virtio_mask_vector(struct virtio *device, u32 vector, int masked);
void virtio_mask_function(struct virtio *device, int masked);
int virtio_vector_pending(struct virtio *device, u32 vector);
/* The registers are where the BAR is now. */
void virtio_pci_locate(struct virtio *device);


#endif
