/*
 * Which programs this compilation makes: those of one part (KPF_PART_..., kpf_ebpf/kernel/compile.py), so that parts can be
 * compiled side by side, and what is not needed is not compiled. Another part's program is a function that nobody calls.
 */
#define KPF_NOT_MADE static __attribute__((unused)) int

#ifdef KPF_PART_SOCKETS
#define KPF_SOCKETS_PROGRAM int
#else
#define KPF_SOCKETS_PROGRAM KPF_NOT_MADE
#endif
#ifdef KPF_PART_PACKETS
#define KPF_PACKETS_PROGRAM int
#else
#define KPF_PACKETS_PROGRAM KPF_NOT_MADE
#endif
#ifdef KPF_PART_ADAPTERS
#define KPF_ADAPTERS_PROGRAM int
#else
#define KPF_ADAPTERS_PROGRAM KPF_NOT_MADE
#endif
#ifdef KPF_PART_PROBES
#define KPF_PROBES_PROGRAM int
#else
#define KPF_PROBES_PROGRAM KPF_NOT_MADE
#endif
