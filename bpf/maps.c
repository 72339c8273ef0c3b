/*
 * Every map. All but the templates are pinned below KPF_PIN, so that they outlive the process that loaded them
 * and the next `up` finds them. Only `identity` and `processes` hold what could not be had again.
 */
/* BCC makes the maps that it compiles for, and forgets them: of one element. How many there are says maps.py, as here. */
#define KPF_PINNED(kind, key, value, name, entries, flags) \
    BPF_F_TABLE(kind ":" KPF_PIN "/" #name, key, value, name, 1, flags)
/*
 * One inner map per slot; the template only tells the verifier what the inner maps are like. It must have no type
 * information: from 5.15 to 6.1 the kernel takes maps with and without for different kinds. Its leaf is a stand-in:
 * kpf_ebpf/kernel/maps.py makes the maps, and LLVM takes minutes for elements of megabytes.
 */
#define KPF_TEMPLATE(kind, key_type, value, name, map_flags) \
    struct name##_table_t { \
        key_type key; \
        u64 leaf; \
        u32 max_entries; \
        int flags; \
    }; \
    __attribute__((section("maps/" kind))) \
    struct name##_table_t name = {.flags = (map_flags), .max_entries = 1}
#define KPF_SLOTTED(kind, key, value, name, flags) \
    KPF_TEMPLATE(kind, key, value, name##_template, flags); \
    BPF_F_TABLE("array_of_maps$" #name "_template:" KPF_PIN "/" #name, int, int, name, KPF_SLOTS, 0)

#define KPF_SOCKET_STORAGE(value, name, storage_flags) \
    struct name##_table_t { \
        int key; \
        value leaf; \
        void *(*sk_storage_get)(void *, void *, int); \
        int (*sk_storage_delete)(void *); \
        u32 flags; \
    }; \
    __attribute__((section("maps/sk_storage:" KPF_PIN "/" #name))) \
    struct name##_table_t name = {.flags = (storage_flags)}; \
    BPF_ANNOTATE_KV_PAIR(name, int, value)

KPF_SOCKET_STORAGE(struct kpf_identity, identity, BPF_F_NO_PREALLOC | BPF_F_CLONE);

KPF_PINNED("hash", u32, struct kpf_process, processes, KPF_PROCESSES, 0);
KPF_PINNED("array", u32, u64, became, KPF_BECAME, 0); /* ktime, ns: see kpf_becomes() */
KPF_PINNED("lru_hash", struct kpf_file, struct kpf_path, paths, KPF_PATHS, 0);
KPF_PINNED("hash", struct kpf_path, struct kpf_file, scripts, KPF_SCRIPTS, 0);
KPF_PINNED("lru_hash", u64, struct kpf_file, pending, KPF_PENDING, 0);
KPF_PINNED("array", u32, struct kpf_home, home, 1, 0);
KPF_PINNED("hash", u64, u64, cgroup_marks, KPF_CGROUPS, 0);           /* cgroup id: mark of the policy's path */
KPF_PINNED("hash", struct kpf_path, u64, cgroup_paths, KPF_SCRIPTS, 0); /* the policy's path: its mark */
KPF_PINNED("array", u32, struct kpf_reach, reach, 1, 0);
KPF_PINNED("percpu_array", u32, struct kpf_path, scratch, 1, 0);
KPF_PINNED("lru_hash", struct kpf_flow_key, struct kpf_flow_state, flows, KPF_FLOWS, 0);
KPF_PINNED("lru_hash", struct kpf_flow_key, struct kpf_recent, recent, KPF_RECENT, 0);
KPF_PINNED("lru_hash", struct kpf_mirror_key, struct kpf_mirror, mirrors, KPF_MIRRORS, 0);
KPF_PINNED("percpu_array", u32, struct kpf_search, searches, 1, 0);
KPF_PINNED("hash", struct kpf_named_key, struct kpf_named, named, KPF_NAMED, BPF_F_NO_PREALLOC);
KPF_PINNED("hash", struct kpf_adapter_key, struct kpf_adapter, adapters, KPF_ADAPTERS, BPF_F_NO_PREALLOC);
KPF_PINNED("array", u32, struct kpf_address_memo, address_memos, KPF_ADDRESS_MEMOS, 0);
KPF_PINNED("array", u32, struct kpf_owner_memo, owner_memos, KPF_OWNER_MEMOS, 0);
KPF_PINNED("array", u32, struct kpf_flow_memo, flow_memos, KPF_FLOW_MEMOS, BPF_F_MMAPABLE); /* that is, aligned */
KPF_PINNED("array", u32, struct kpf_settled_memo, settled_memos, KPF_SETTLED_MEMOS, 0);
/* Each holds the program that it is named after: where packets go on that no cache decides. */
KPF_PINNED("prog", u32, u32, judge_packet, 1, 0);
KPF_PINNED("prog", u32, u32, judge_frame, 1, 0);
KPF_PINNED("array", u32, struct kpf_told, told, 1, 0);
KPF_PINNED("percpu_array", u32, struct kpf_counter, counters, KPF_COUNTERS, 0);
KPF_PINNED("percpu_array", u32, u64, defaults, KPF_DEFAULTS, 0);
KPF_PINNED("array", u32, struct kpf_active_word, active, 1, 0);
KPF_PINNED("array", u32, struct kpf_trial, trial, 1, 0);
KPF_PINNED("array", u32, u64, heartbeat, 1, 0); /* ktime, ns */
KPF_PINNED("array", u32, struct kpf_probe, probes, KPF_PROBES, 0);
KPF_PINNED("array", u32, struct kpf_file, identified, 1, 0);

/* One element each, of a fixed size: the kernel then reaches it without a call, and user space fills it as memory. */
KPF_SLOTTED("array", u32, struct kpf_image, images, BPF_F_MMAPABLE);
KPF_SLOTTED("array", u32, struct kpf_rows, rows, BPF_F_MMAPABLE);
KPF_SLOTTED("array", u32, struct kpf_pool, pool, BPF_F_MMAPABLE);
KPF_SLOTTED("array", u32, struct kpf_rules, rules, BPF_F_MMAPABLE);
KPF_SLOTTED("array", u32, struct kpf_ports, ports, BPF_F_MMAPABLE);
KPF_SLOTTED("array", u32, struct kpf_addresses, address_kinds, BPF_F_MMAPABLE);
KPF_SLOTTED("hash", struct kpf_application_key, struct kpf_application_file, applications, BPF_F_NO_PREALLOC);
KPF_SLOTTED("hash", u32, u32, users, BPF_F_NO_PREALLOC);
KPF_SLOTTED("hash", u64, u32, cgroups, BPF_F_NO_PREALLOC); /* by mark */
KPF_SLOTTED("lpm_trie", struct kpf_prefix, u32, addresses, BPF_F_NO_PREALLOC);
KPF_SLOTTED("hash", struct kpf_host, u32, hosts, BPF_F_NO_PREALLOC);

struct events_table_t {
    int key;
    u32 leaf;
    int (*perf_submit)(void *, void *, u32);
    int (*perf_submit_skb)(void *, u32, void *, u32);
    u32 max_entries;
};
__attribute__((section("maps/perf_output:" KPF_PIN "/events"))) struct events_table_t events = {.max_entries = 0};
