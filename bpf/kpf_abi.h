/*
 * The contract between the kernel programs and Python (kpf_ebpf/kernel/abi.py mirrors every struct; a test
 * compares sizes and offsets on both sides). This header is the specification; kpf_image.h, its second part, is that of a
 * compiled policy.
 *
 * ADDRESSES are 16 bytes in network order, one space for both families: IPv4 a.b.c.d is ::ffff:a.b.c.d.
 * PORTS are host order, 0 = none. "Local" is always this end, "remote" the other. A DIRECTION says who
 * initiates; a reply is never "in".
 *
 * ORDER OF EVALUATION (the first match decides)
 *   0 canary       the canary's two rules, first in the rule vectors
 *   1 stop-all     denies all but the loopback GUI-Engine connection on the administration port
 *   2 state        a flow already judged under the active word passes or falls by that verdict
 *   3 internal     all permit; the mirrored half of a loopback flow belongs here
 *   4 guard        in to the administration and pop-up ports: deny
 *   5 modified     a named program whose file changed: deny
 *   6 packet filter, 7 predefined
 *   8 application rules and 9 "any other application": the application's four cells
 *
 * DEFAULT VERDICTS, named where they are returned: enum kpf_default.
 */
#ifndef KPF_ABI_H
#define KPF_ABI_H

/* Version of the pinned layouts; a run folder of another version is replaced, not reused. */
#define KPF_ABI_VERSION 2

/* ---- sizes ------------------------------------------------------------------------------------------ */
#define KPF_SLOTS 3            /* images: the active one, one kept back, one being filled */
#define KPF_CHUNK_WORDS 4      /* a chunk of a rule vector: 256 rules */
#define KPF_CHUNKS 60          /* chunks at most: one bit of a summary word each */
#define KPF_RUN_CHUNKS 6       /* chunks with candidates that a packet hook looks at in one run; more: see kpf_search */
#define KPF_EARLY_CHUNKS 3     /* chunks with candidates that connect and sendmsg look at; more: the packet hooks do */
#define KPF_MAX_POSITIONS (KPF_CHUNKS * KPF_CHUNK_WORDS * 64)
#define KPF_ROWS 32768         /* different rule vectors of an image; a power of two, so that a mask bounds a class */
#define KPF_ADDRESSES 32768    /* different things that an image says of addresses; a power of two, as KPF_ROWS */
#define KPF_POOL 65536         /* different chunks of an image */
#define KPF_RULES 65536        /* rules of an image: one per position, then the cells' */
#define KPF_PORTS 65536
#define KPF_PROTOCOLS 256
#define KPF_ICMP_CLASSES 768
#define KPF_SCOPES 108         /* see kpf_scope_index() */
#define KPF_COUNTERS 65536     /* rule ids that can be counted at once */
#define KPF_PROCESSES 65536
#define KPF_FLOWS 65536        /* unconnected flows remembered; the oldest is evicted */
#define KPF_RECENT 16384       /* flows without state remembered, so that a repeat is not a new flow */
#define KPF_MIRRORS 8192       /* loopback flows whose sender's half was permitted by an internal rule */
#define KPF_PATHS 16384        /* paths of executed files, for the log */
#define KPF_PATH_BYTES 256
#define KPF_ADDRESS_MEMOS 16384 /* powers of two: see memo.c */
#define KPF_OWNER_MEMOS 4096
#define KPF_FLOW_MEMOS 8192
#define KPF_SETTLED_MEMOS 4096
#define KPF_BECAME 4096        /* numbers of processes that are told apart where they became another program; a power of two */
#define KPF_NAMED 65536        /* addresses of host names, and own ones, in all slots */
#define KPF_ADAPTERS 16384     /* adapters, in all slots */
#define KPF_CGROUPS 65536      /* cgroups that a policy names or that lie below such */
#define KPF_SCRIPTS 4096       /* scripts that a policy names, by path */
#define KPF_PENDING 4096       /* scripts between the kernel's check of their file and their start */
#define KPF_ADAPTER_SLOTS 64   /* bit 0 of a trusted mask: any adapter that no trusted item names */
#define KPF_PROBES 1024        /* flows the classifier's test probe can be handed at a time */

/* ---- numbers that are written over in compiled programs (kpf_ebpf/kernel/compiled.py) ------------------ */
#define KPF_ACTIVE_VALUE 0x4b50462d61637476 /* stands for the address of the value in `active` */
#define KPF_NUMBER 0x4b50462d6e756d62       /* stands for the number of one of the programs that a text makes */
#define KPF_REACH_IPV4 1    /* of kpf_reach: bits of the number */
#define KPF_REACH_CONNECT 2

/* ---- words ------------------------------------------------------------------------------------------ */
enum kpf_action { KPF_DENY = 0, KPF_PERMIT = 1 };
enum kpf_direction { KPF_IN = 0, KPF_OUT = 1 };
/* A socket's initiator: unknown until a packet or connect() tells. */
enum kpf_initiator { KPF_INITIATOR_UNKNOWN = 0, KPF_INITIATOR_IN = 1, KPF_INITIATOR_OUT = 2 };
enum kpf_component {
    KPF_COMPONENT_NONE = 0,
    KPF_COMPONENT_ENGINE = 1,
    KPF_COMPONENT_GUI = 2,
    KPF_COMPONENT_ASSIST = 3,
    KPF_COMPONENT_CANARY = 4,
    KPF_COMPONENTS = 8, /* a power of two, so that a mask bounds it; 5 to 7 are never given out */
};
enum kpf_step {
    KPF_STEP_CANARY = 0,
    KPF_STEP_STOP_ALL = 1,
    KPF_STEP_STATE = 2,
    KPF_STEP_INTERNAL = 3,
    KPF_STEP_GUARD = 4,
    KPF_STEP_MODIFIED = 5,
    KPF_STEP_PACKET_FILTER = 6,
    KPF_STEP_PREDEFINED = 7,
    KPF_STEP_APPLICATION = 8,
    KPF_STEP_DEFAULT = 9,
};
enum kpf_hook {
    KPF_HOOK_CONNECT = 1,
    KPF_HOOK_SENDMSG = 2,
    KPF_HOOK_EGRESS = 3,
    KPF_HOOK_INGRESS = 4,
    KPF_HOOK_ADAPTER_EGRESS = 5,
    KPF_HOOK_ADAPTER_INGRESS = 6,
};
/* The fields of a flow that rules tell apart; each value has a class: the row of the rules that accept it. */
enum kpf_field {
    KPF_FIELD_APPLICATION = 0,
    KPF_FIELD_USER = 1,
    KPF_FIELD_CGROUP = 2,
    KPF_FIELD_LOCAL_ADDRESS = 3,
    KPF_FIELD_REMOTE_ADDRESS = 4,
    KPF_FIELD_PROTOCOL = 5,
    KPF_FIELD_LOCAL_PORT = 6, /* for protocols 1 and 58: the ICMP type */
    KPF_FIELD_REMOTE_PORT = 7,
    KPF_FIELD_SCOPE = 8,
    KPF_FIELDS = 9,
};
/* Three-valued facts, as far as a hook can know them. */
enum kpf_known { KPF_NO = 0, KPF_YES = 1, KPF_UNKNOWN = 2 };
/* What an early hook can say: nothing yet; denied, or permitted by one rule, whatever is still unknown. */
enum kpf_outcome { KPF_OUTCOME_OPEN = 0, KPF_OUTCOME_DENIED = 1, KPF_OUTCOME_SETTLED = 2 };
/* Default verdicts: each place that returns without a rule names one, and counts it in `defaults`. */
enum kpf_default {
    KPF_DEFAULT_NO_IMAGE = 0,      /* no image is active (only before the first switch): permit */
    KPF_DEFAULT_BROKEN_IMAGE = 1,  /* an image's map or entry is missing: deny */
    KPF_DEFAULT_NO_IP = 2,         /* not an IP packet, or shorter than its header: deny */
    KPF_DEFAULT_NO_SOCKET = 3,     /* a packet without a full socket: permit, it is a kernel answer */
    KPF_DEFAULT_NO_MEMORY = 4,     /* a cache or flow entry could not be made: the verdict stands, uncached */
    KPF_DEFAULT_EVENT_LOST = 5,    /* a perf event found no reader or no room, or more than may be told were there */
    KPF_DEFAULT_EVENT_SEEN = 6,    /* a perf event was written */
    KPF_DEFAULT_PROCESS_LOST = 7,  /* a process could not be remembered: its sockets are "unknown" */
    KPF_DEFAULTS = 8,
};

/* ---- a verdict ------------------------------------------------------------------------------------- */
/* What a verdict is made of; `counter` is stable as long as the rule's id is. */
#define KPF_RULE_LOG 1
#define KPF_RULE_ALERT 2
#define KPF_RULE_MIRROR_ENGINE 4 /* its loopback flows are mirrored to the Engine (popup-log) */
#define KPF_RULE_MIRROR_GUI 8    /* ... and to the GUI (engine-to-gui) */
struct kpf_rule {
    u32 counter;
    u8 action;
    u8 step;
    u8 flags;
    u8 pad;
};

/* ---- who ------------------------------------------------------------------------------------------- */
/* A file as the kernel sees it. All zero: unknown. inode 0, device 0, generation 1: the kernel itself. */
struct kpf_file {
    u64 inode;
    u32 device;            /* super_block.s_dev: major << 20 | minor */
    u32 generation;
    s64 ctime_seconds;
    u32 ctime_nanoseconds; /* without the "was queried" flag of 6.13 and later */
    u32 pad;
};
/*
 * A process, by tgid in the initial pid namespace: the file it executes, the script that this file interprets, and a
 * component `up` registered. A script that is not known by its file has inode n, device 0 and one of these generations:
 * nobody's rule, but not its interpreter's either.
 */
#define KPF_SCRIPT_AT_HOME 2   /* its path is what the policy would mean by it */
#define KPF_SCRIPT_ELSEWHERE 3 /* its path means something in another mount namespace or root only */
struct kpf_process {
    struct kpf_file file;
    struct kpf_file script;  /* zero: not a script */
    u32 component;         /* enum kpf_component; inherited over fork, lost at exec */
    u32 appimage;          /* what it executes from FUSE is itself: it is an AppImage, or was executed so */
};
/* Where paths mean what they mean to the policy: a mount namespace, and a root folder in it (kernel pointers). */
struct kpf_home {
    u64 mount_namespace;
    u64 mount;
    u64 dentry;
};
/* What is firewalled: the namespace whose adapters are filtered, and the cgroup with its depth below the root. */
struct kpf_reach {
    u64 netns_cookie;
    u64 cgroup;
    u32 level;
    u32 pad;
};
/*
 * What a connected socket's last packet was judged by. Whoever writes it holds `lock` and counts `writes` up before and
 * after: odd means being written; but for connect() and the packet that opens its connection, while nobody else writes. All
 * zero: nothing was judged, and no active word is 0. All that a packet is compared with is here, in one cache line, but for
 * the other words of IPv6 addresses.
 */
#define KPF_CACHE_LAYOUT 2
#define KPF_PASSES_IN 1          /* a packet that comes in is of this flow, as far as it is known */
#define KPF_PASSES_OUT 2
#define KPF_PASSES_ANYBODY 4     /* the flow came in: whoever sends, answers */
#define KPF_KIND_IPV4 0x01000000 /* both addresses are IPv4 */
#define KPF_KIND_ALL 0xff0000ff  /* what of a kind a packet has, too */
struct kpf_cache {
    struct bpf_spin_lock lock;
    u32 writes;
    u64 active;                  /* the active word it was judged under */
    u32 last[2];                 /* the last words of the addresses: local, remote; network order */
    u32 ports;                   /* as on the wire of what goes out: local, remote; network order */
    u32 ifindex;
    u32 kind;                    /* layout << 25 | KPF_KIND_IPV4 | action << 16 | KPF_PASSES_... << 8 | protocol */
    u32 counter;                 /* of the rule */
};
/* The other words of the two addresses, as kpf_header has them. */
struct kpf_upper {
    u64 words[3];
};
/*
 * The identity of a socket (socket storage, pinned, inherited by accepted sockets). FROZEN: layout 2; all that other
 * versions may change is the inside of its first 72 bytes, with another KPF_CACHE_LAYOUT, and `pad`, which is 0.
 */
struct kpf_identity {
    struct kpf_cache cache;  /* first: in the cache line that the kernel has just read */
    struct kpf_upper upper;
    u64 spare;
    struct kpf_file application; /* the script, if it is one */
    u64 netns_cookie;
    u64 cookie;              /* of a datagram socket, once it was asked for; not to be relied on elsewhere: it is inherited */
    u64 cgroup;              /* cgroup v2 id of the process that created the socket */
    u32 pid;
    u32 uid;                 /* real uid, initial user namespace */
    u8 version;              /* KPF_ABI_VERSION; 0: the owner is not known */
    u8 component;
    u8 initiator;            /* enum kpf_initiator */
    u8 adopted;              /* 1: older than the hooks, and no listener: no hook has counted its flow */
    u8 unsent;               /* 1: connect() has settled it; the first packet that goes out fills in adapter and local point */
    u8 pad[3];
};

/* ---- a flow, as every hook describes it ------------------------------------------------------------- */
#define KPF_KNOWS_LOCAL_ADDRESS 1
#define KPF_KNOWS_LOCAL_PORT 2
#define KPF_KNOWS_ADAPTER 4
#define KPF_KNOWS_ALL 7
#define KPF_HAS_PORTS 8        /* the ports are there and were read */
struct kpf_flow {
    u32 local[4];
    u32 remote[4];
    struct kpf_file application;
    u64 cgroup;
    u64 netns_cookie;
    u32 uid;
    u32 ifindex;
    u16 local_port;
    u16 remote_port;
    u16 icmp;              /* ICMP: type; ICMPv6: 256 + type; 512 + type with a hop limit other than 255 */
    u8 protocol;
    u8 direction;          /* enum kpf_direction */
    u8 known;              /* KPF_KNOWS_... and KPF_HAS_PORTS */
    u8 component;
    u8 pad[6];
};

/* ---- state ------------------------------------------------------------------------------------------- */
/*
 * The active word: generation << 8 | on trial << 6 | opens << 5 | stop-all << 4 | slot + 1. No slot: nothing is active, and
 * everything passes. One write of it switches.
 */
#define KPF_ACTIVE_SOME 15
#define KPF_ACTIVE_SLOT(word) ((u32)((word) & KPF_ACTIVE_SOME) - 1)
#define KPF_ACTIVE_STOP_ALL(word) ((u32)((word) >> 4) & 1)
#define KPF_ACTIVE_MAY_OPEN 32
#define KPF_ACTIVE_OPENS(word) ((u32)((word) >> 5) & 1) /* on-failure = "open": nothing, while no Engine lives */
#define KPF_ACTIVE_ON_TRIAL 64 /* what counts in its place after a moment is in `trial`; else nobody need look there */
/* So long (ktime, ns) the last heartbeat of the Engine counts, where the active word opens. */
#define KPF_HEARTBEAT_COUNTS 800000000
struct kpf_active_word {
    u64 word;
    u64 nought;                  /* 0, which the verifier cannot know: see kpf_active() */
};
/*
 * An active word on trial: if it is still the active one at `until` (ktime, ns; 0: no trial), `instead` counts in its
 * place. Written before the active word.
 */
struct kpf_trial {
    u64 word;
    u64 instead;
    u64 until;
};
/*
 * What else an address is at the moment, by slot, beside what its prefixes say: one that a host name has (the rows of the
 * rules that name such a host), one of this host's own, or the broadcast of one of its networks. All this changes more
 * often than the policy, and a change shall cost no more than itself.
 */
struct kpf_named_key {
    u32 slot;
    u32 family;                  /* all ones for IPv4, else zero */
    u32 address[4];              /* as in a flow, but of IPv4 the first word is the last, too */
};
struct kpf_named {
    u32 local_row;
    u32 remote_row;
    u32 flags;                   /* KPF_ADDRESS_OWN, KPF_ADDRESS_DIRECTED */
};
/* An adapter of the home namespace, by slot and ifindex. */
struct kpf_adapter_key {
    u32 slot;
    u32 ifindex;
};
struct kpf_adapter {
    u32 place;                   /* bit in kpf_address.trusted */
    u32 own_zone;                /* bits 0, 1: its own IPv4, IPv6 address is trusted; bits 2, 3: it has one */
};
/* What was looked up of an address lately: see memo.c. `lock` and `writes` as in kpf_cache. */
struct kpf_address_memo {
    struct bpf_spin_lock lock;
    u32 writes;
    u64 active;
    u32 address[4];
    u32 number;
    struct kpf_named named;
};
/* What an image says of who owns a flow. */
struct kpf_owner {
    u32 class_;                  /* of the application */
    u32 component;
    u32 cells[4];                /* as in kpf_application */
    u32 instead;                 /* the position of "modified", which decides behind the guard... */
    u32 modified;                /* ... if this is 1, and not 0 */
    u32 user;                    /* class */
    u32 cgroup;                  /* class */
};
struct kpf_owner_memo {
    struct bpf_spin_lock lock;
    u32 writes;
    u64 active;
    struct kpf_file application;
    u64 cgroup;
    u32 uid;
    u32 component;
    struct kpf_owner owner;
};
/*
 * A flow of a datagram socket that is connected to nobody, as its last packet was judged: see cache.c. It counts for a
 * moment only (KPF_SEEN_ANEW): how long it lives is written down in its flow's state.
 */
#define KPF_NEVER 0xffffffffffffffff
struct kpf_flow_memo {
    struct kpf_cache cache;
    u64 cookie;                  /* of the socket */
    u64 became;                  /* what the map of that name said when `pid` was last seen to be the owner; or KPF_NEVER */
    u32 pid;
    u32 seen;                    /* jiffies */
    struct kpf_upper upper;      /* this begins another cache line: most need the first one only */
    u64 owner;                   /* who sends: see kpf_owner_mark() */
    u64 spare[4];
};
/* By which rule connect() to a point was settled lately, for a program, user and cgroup: see memo.c. */
struct kpf_settled_memo {
    struct bpf_spin_lock lock;
    u32 writes;
    u64 active;
    struct kpf_file application;
    u64 cgroup;
    u64 netns_cookie;
    u64 remote[2];               /* an address, two words at once */
    u32 uid;
    u16 remote_port;             /* network order */
    u8 component;
    u8 pad;
    struct kpf_rule rule;
};
struct kpf_flow_key {
    u64 cookie;                  /* of the socket */
    u32 remote[4];
    u16 remote_port;
    u16 id;                      /* ICMP echo identifier */
    u8 protocol;
    u8 pad[3];
};
struct kpf_flow_state {
    struct kpf_file application; /* who sent, or who owns the socket it came to */
    u64 active;                  /* 0: not judged yet */
    u64 seen;                    /* jiffies */
    struct kpf_rule rule;
    u32 pid;
    u32 uid;
    u32 ifindex;
    u8 component;
    u8 initiator;
    u8 answered;
    u8 pad;
};
struct kpf_recent {              /* a flow judged lately that no state remembers */
    u64 active;
    u64 seen;                    /* jiffies */
    u32 counter;
    u32 pad;
};
/*
 * A search for a rule that a run of a program has not finished: the program begins again with the same packet, by a tail
 * call, and leaves out what it has looked at. (The verifier walks every round of a loop: sixty would be most of its work.)
 */
struct kpf_search {
    u64 packet;                  /* its address in the kernel: another packet may come in between, on this processor */
    u64 active;                  /* the active word it is searched under: by another one it begins anew */
    u64 done;                    /* bit n: chunk n has no match; 0: no search is under way */
};
/* How many flows were told of in a stretch of time. About: processors may count past each other. */
#define KPF_TOLD_AT_MOST 2000  /* flows in a stretch of two seconds */
struct kpf_told {
    u64 stretch;                 /* jiffies / (2 * KPF_HZ) */
    u64 count;
};
struct kpf_mirror_key {
    u64 netns_cookie;
    u32 sender[4];
    u32 receiver[4];
    u16 sender_port;
    u16 receiver_port;
    u8 protocol;
    u8 pad[3];
};
struct kpf_mirror {
    struct kpf_rule rule;
    u32 component;               /* the sender's */
    u32 pad;
};

/* ---- what user space reads --------------------------------------------------------------------------- */
struct kpf_counter {
    u64 hits;                    /* flows judged: one per flow and end */
    u64 packets;
    u64 bytes;
};
/* A flow and its verdict. Hooks fill one in from the start; what user space reads is exactly what was judged. */
struct kpf_event {
    struct kpf_flow flow;
    u64 time;                    /* ktime, ns */
    u64 active;                  /* the active word it was judged under */
    u32 counter;                 /* of the rule */
    u32 pid;                     /* 0: not known */
    u8 action;
    u8 hook;
    u8 flags;                    /* of the rule */
    u8 pad[5];
};
struct kpf_path {
    char text[KPF_PATH_BYTES];
};
struct kpf_probe {               /* the classifier's test probe: a flow in, a verdict out */
    struct kpf_flow flow;
    u64 active;                  /* judged under this active word */
    struct kpf_rule rule;
    u32 early;                   /* enum kpf_outcome: what an early hook would say */
    u32 ok;                      /* 1: the probe ran */
};

#endif
