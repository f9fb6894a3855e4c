#include "engine/mapping_guard.h"

#include <signal.h>
#include <sys/mman.h>
#ifdef __linux__
#include <sys/syscall.h>
#endif
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <mutex>

namespace gemcut {
namespace {

// A signal handler reads these, so they are plain memory that is always there.
struct Watched {
  std::atomic<uintptr_t> begin{0};  // 0: free
  std::atomic<uintptr_t> end{0};
  std::atomic<bool> damaged{false};
};
constexpr int most_watched = 64;
Watched watched[most_watched];
std::mutex mutex;  // of those who add and remove
struct sigaction before;
uintptr_t page_bytes;

uintptr_t number_of(const void* address) { return reinterpret_cast<uintptr_t>(address); }

Watched* find(uintptr_t address) {
  for (Watched& one : watched)
    if (address >= one.begin.load() && address < one.end.load()) return &one;
  return nullptr;
}

// Zeros from the page of the missing byte to the map's end.
bool fill_with_zeros(uintptr_t address, uintptr_t end) {
  const uintptr_t page = address / page_bytes * page_bytes;
  void* const place = reinterpret_cast<void*>(page);
  constexpr int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
#ifdef __linux__
  // Not through the C library: the thread sanitizer takes its call for a write that races with those who read there,
  // who find either the file's page or this one, and whose results are not used.
  return syscall(SYS_mmap, place, end - page, PROT_READ, flags, -1, 0) != -1;
#else
  return mmap(place, end - page, PROT_READ, flags, -1, 0) != MAP_FAILED;
#endif
}

void hand_on(int signal, siginfo_t* facts, void* context) {
  if (before.sa_flags & SA_SIGINFO) {
    before.sa_sigaction(signal, facts, context);
  } else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) {
    before.sa_handler(signal);
  } else {
    struct sigaction ending {};
    ending.sa_handler = SIG_DFL;
    sigaction(signal, &ending, nullptr);
    if (facts->si_code <= 0) raise(signal);  // sent, not met: it would not come again by itself
  }
}

void handle(int signal, siginfo_t* facts, void* context) {
  const int error = errno;
  const uintptr_t address = number_of(facts->si_addr);
  Watched* const one = facts->si_code > 0 ? find(address) : nullptr;
  if (one && fill_with_zeros(address, one->end.load())) one->damaged.store(true);
  else hand_on(signal, facts, context);
  errno = error;
}

bool set_handler() {
  static const bool is_set = [] {
    page_bytes = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
    struct sigaction ours {};
    ours.sa_sigaction = handle;
    ours.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigemptyset(&ours.sa_mask);
    return sigaction(SIGBUS, nullptr, &before) == 0 && sigaction(SIGBUS, &ours, nullptr) == 0;
  }();
  return is_set;
}

}  // namespace

bool guard_mapping(const void* begin, size_t bytes) {
  const std::lock_guard lock(mutex);
  if (!set_handler()) return false;
  const uintptr_t last = (number_of(begin) + bytes + page_bytes - 1) / page_bytes * page_bytes;
  for (Watched& one : watched) {
    if (one.begin.load()) continue;
    one.damaged.store(false);
    one.begin.store(number_of(begin));
    one.end.store(last);
    return true;
  }
  return false;
}

void unguard_mapping(const void* begin) {
  const std::lock_guard lock(mutex);
  for (Watched& one : watched) {
    if (one.begin.load() != number_of(begin)) continue;
    one.end.store(0);
    one.begin.store(0);
  }
}

bool is_mapping_damaged(const void* address) {
  const Watched* const one = find(number_of(address));
  return one && one->damaged.load();
}

}  // namespace gemcut
