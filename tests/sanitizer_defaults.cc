// SPDX-License-Identifier: Apache-2.0
// Defaults compiled into every executable of a sanitizer preset, so that tests need no environment.
// Open MPI leaks about 120 KB a rank from components that it unloads before exit, and libhdf5 a buffer when a flush
// fails. The fast unwinder cannot see through them, so programs that start MPI or provoke such a flush use the slow one
// (up to 50 times slower where memory is allocated all the time). Everything of ours stays reported.
#if defined(__SANITIZE_ADDRESS__)
extern "C" {
__attribute__((visibility("default"))) const char* __asan_default_options();
__attribute__((visibility("default"))) const char* __lsan_default_suppressions();

#if defined(FARSIGHT_SLOW_UNWINDER)
const char* __asan_default_options() { return "fast_unwind_on_malloc=0:detect_stack_use_after_return=0"; }
// A file that could not be closed is forgotten with all that belongs to it. Programs that let no flush fail do without
// this line and see every handle of ours that is not closed.
#define FARSIGHT_FAILED_FLUSHES "leak:libhdf5\n"
#else
const char* __asan_default_options() { return "detect_stack_use_after_return=0"; }
#define FARSIGHT_FAILED_FLUSHES ""
#endif
const char* __lsan_default_suppressions() {
  return "leak:libmpi.so\nleak:libopen-pal.so\nleak:libopen-rte.so\nleak:libpmix.so\nleak:libhwloc.so\n"
         "leak:libevent\nleak:mca_\n"
         "leak:H5F__accum_write\n"  // libhdf5 forgets a buffer when its last flush fails
      FARSIGHT_FAILED_FLUSHES;
}
}
#endif
