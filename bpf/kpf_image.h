/*
 * The second part of the contract (kpf_abi.h): an image, which is a policy, compiled. kpf_ebpf/kernel/abi_image.py mirrors
 * it. There is one inner map of each kind per slot.
 */
#ifndef KPF_IMAGE_H
#define KPF_IMAGE_H

/* An application's class and its cells: positions in `rules`, indexed zone * 2 + direction (trusted = 1). */
struct kpf_application {
    u32 class_;
    u32 component;
    u32 modified;          /* position of its "modified" rule; 0xffffffff: it has none */
    u32 cells[4];
    u32 pad;
};
struct kpf_application_key {
    u64 inode;
    u32 device;
    u32 generation;
};
/*
 * A file that the policy means, with the times of the contents that were accepted: what is there now, and what
 * processes may still execute that started before a chmod or the like. Any other ctime means "modified".
 */
#define KPF_CTIMES 4             /* unused ones are 0, which no file has */
struct kpf_ctime {
    s64 seconds;
    u32 nanoseconds;
    u32 pad;
};
struct kpf_application_file {
    struct kpf_ctime accepted[KPF_CTIMES];
    struct kpf_application application;
};
#define KPF_NO_POSITION 0xffffffff
#define KPF_UNFINISHED 0xfffffffe
struct kpf_image {
    u64 home;                    /* netns cookie of the namespace `up` ran in */
    u64 internal;                /* bit n: the internal rule with counter n is in this image */
    u32 positions;               /* rules in the vectors; the cells' rules follow them */
    u32 canary_end;              /* first position behind step 0 */
    u32 guard_end;               /* first position behind step 4; at most 64 */
    u32 administration_port;
    u32 popup_port;
    u32 permits;                 /* row of all rules that permit */
    u32 everything;              /* row of all rules */
    u32 users;                   /* class of users that no rule names */
    u32 cgroups;                 /* ... of cgroups */
    u32 no_local_port;           /* class of packets whose ports cannot be read */
    u32 no_remote_port;
    u32 no_local_address;        /* class of a local address that no rule names */
    u32 hosts;                   /* addresses in the hash of hosts; 0: all of them are among the prefixes */
    u32 pad;
    struct kpf_rule stop_all;
    struct kpf_application components[KPF_COMPONENTS]; /* [0] is "any other application" */
    u32 protocols[KPF_PROTOCOLS];     /* class of a protocol */
    u32 icmp[KPF_ICMP_CLASSES];       /* class of kpf_flow.icmp, in the place of the local port's */
    u32 scopes[KPF_SCOPES];           /* class of a scope: the rules that may match ... */
    u32 sure_scopes[KPF_SCOPES];      /* ... and those that surely do */
};
struct kpf_chunk {
    u64 words[KPF_CHUNK_WORDS];
};
/*
 * A rule vector, as the numbers of its chunks. Equal vectors are one row, equal chunks one chunk: rows are many. Row 0 and
 * chunk 0 are empty.
 */
struct kpf_row {
    u16 chunks[KPF_CHUNKS];
    u64 summary;                 /* bit n: chunk n has a bit set; last, so that no number up to 63 reaches beyond */
};
/* What the kernel looks at by number, whole: programs reach into it without a call. At most 4 MiB (up to 5.14). */
struct kpf_rows {
    struct kpf_row row[KPF_ROWS];
};
struct kpf_pool {
    struct kpf_chunk chunk[KPF_POOL];
};
struct kpf_rules {
    struct kpf_rule rule[KPF_RULES];
};
/*
 * Address prefixes, network order: `bits` counts from the start of the family, which is all ones for IPv4 and zero for
 * IPv6, so that the first bit tells. An IPv4 address is the first word. (In one space for both, whatever is said of all
 * IPv6 would be 96 prefixes on the way to every IPv4 address.)
 */
struct kpf_prefix {
    u32 bits;
    u32 family;
    u32 address[4];
};
/* An address in full, as in a flow: where an image has many of them, they are in a hash, and not among the prefixes. */
struct kpf_host {
    u32 address[4];
};
#define KPF_ADDRESS_GROUP 1      /* multicast or broadcast */
#define KPF_ADDRESS_OWN 2        /* an address of this host, in the home namespace; only in kpf_named */
#define KPF_ADDRESS_LOOPBACK 4
#define KPF_ADDRESS_DIRECTED 8   /* the broadcast of one of this host's networks, in the home namespace; only in kpf_named */
struct kpf_address {
    u64 trusted;                 /* bit n: trusted on the adapter with place n; all ones: on every adapter */
    u32 local_class;
    u32 remote_class;
    u32 flags;
    u32 pad;
};
/* By number: a list of a million networks says the same of all of them, and each has the number only. */
struct kpf_addresses {
    struct kpf_address address[KPF_ADDRESSES];
};
struct kpf_port {
    u32 local_class;
    u32 remote_class;
};
struct kpf_ports {
    struct kpf_port port[KPF_PORTS];
};

#endif
