// A few threads that run one function together: they spin for a moment between jobs, then sleep.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <type_traits>
#include <vector>

namespace gemcut {

class ThreadPool {
 public:
  // Threads of a job, the caller's included; at least 1.
  explicit ThreadPool(int num_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const { return num_threads_; }

  // Runs job(thread index) on every thread and returns when all are done. The job must not throw.
  // One job at a time: callers take turns outside.
  template <class Job>
  void run(Job&& job) {
    run_job([](void* context, int thread) { (*static_cast<std::remove_reference_t<Job>*>(context))(thread); }, &job);
  }

  // Inside a job: waits until every thread is here. What any wrote before, all see after.
  void barrier();

  // Inside a job, called by every thread alike: use(item) for the items 0 to count - 1, each by whichever thread is
  // free, then a barrier.
  template <class Use>
  void share(int64_t count, Use&& use) {
    if (num_threads_ == 1) {
      for (int64_t item = 0; item < count; ++item) use(item);
      return;
    }
    std::atomic<int64_t>& next = counters_[phase_.load(std::memory_order_relaxed) % num_counters].value;
    for (int64_t item = next.fetch_add(1, std::memory_order_relaxed); item < count;
         item = next.fetch_add(1, std::memory_order_relaxed))
      use(item);
    barrier();
  }

 private:
  using Function = void (*)(void*, int);
  struct alignas(64) Counter {
    std::atomic<int64_t> value{0};
  };
  void run_job(Function function, void* context);
  void work(int thread);

  const int num_threads_;
  const int spins_;
  Function function_ = nullptr;
  void* context_ = nullptr;
  alignas(64) std::atomic<uint32_t> job_{0};       // number of the current job; the last one ends the threads
  alignas(64) std::atomic<int32_t> unfinished_{0};
  alignas(64) std::atomic<int32_t> arrived_{0};
  alignas(64) std::atomic<uint32_t> phase_{0};
  std::atomic<bool> ends_{false};
  // One for each phase between barriers, in turn; a phase's last thread clears the one after the next.
  static constexpr uint32_t num_counters = 4;
  Counter counters_[num_counters];
  std::vector<std::thread> threads_;
};

}  // namespace gemcut
