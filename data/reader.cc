// SPDX-License-Identifier: Apache-2.0
#include "data/reader.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>

#include "kernels/error.h"

namespace farsight {

namespace {

void check_positive(const char* name, int64_t value) {
  if (value < 1) fail(ErrorKind::config, "{} = {}; at least 1", name, value);
}

void check_plan(const StreamPlan& plan) {
  check_positive("batch (samples)", plan.global_batch);
  check_positive("data ranks", plan.data_ranks);
  check_positive("micro_batch", plan.micro_batch);
  check_positive("data.prefetch", plan.prefetch);
  if (plan.data_rank < 0 || plan.data_rank >= plan.data_ranks || plan.first_sample < 0) {
    fail(ErrorKind::internal, "data rank {} of {}, first sample {}", plan.data_rank, plan.data_ranks,
         plan.first_sample);
  }
  if (plan.global_batch % (plan.data_ranks * plan.micro_batch) != 0) {
    fail(ErrorKind::config, "a batch of {} samples is not a multiple of {} data ranks x micro_batch {}",
         plan.global_batch, plan.data_ranks, plan.micro_batch);
  }
}

// Token sequences: this rank's positions of each.
class TokenSource : public SampleSource {
 public:
  TokenSource(std::shared_ptr<Corpus> corpus, std::vector<PositionRange> ranges)
      : corpus_(std::move(corpus)), ranges_(std::move(ranges)) {
    const int64_t sequence = corpus_->sequence();
    if (ranges_.empty()) ranges_ = {{.begin = 0, .end = sequence}};
    for (const PositionRange& range : ranges_) {
      if (range.begin >= 0 && range.begin <= range.end && range.end <= sequence) continue;
      fail(ErrorKind::internal, "positions [{}, {}) of a sequence of {}", range.begin, range.end, sequence);
    }
  }

  int64_t samples() const override { return corpus_->samples(); }

  MicroBatch make_batch(int64_t rows) const override {
    const auto ids = [rows](int64_t columns) {
      return Tensor::zeros({rows, columns}, DType::i32, MemoryTag::data, Device::cpu);
    };
    MicroBatch batch;
    batch.inputs = ids(total_size(ranges_));
    batch.labels = ids(total_size(ranges_));
    if (corpus_->pack() == Pack::documents) batch.documents = ids(corpus_->sequence());
    return batch;
  }

  int64_t read(int64_t sample, int64_t j, const MicroBatch& batch) override {
    return corpus_->read(
        sample, ranges_,
        {.inputs = row(batch.inputs, j), .labels = row(batch.labels, j), .documents = row(batch.documents, j)});
  }

  void pad(int64_t j, const MicroBatch& batch) override {
    std::ranges::fill(row(batch.inputs, j), 0);
    std::ranges::fill(row(batch.labels, j), -1);
    std::ranges::fill(row(batch.documents, j), 0);
  }

  void prefetch(int64_t sample) override { corpus_->prefetch(sample, ranges_); }

 private:
  static std::span<int32_t> row(const Tensor& tensor, int64_t j) {
    if (!tensor.defined()) return {};
    return {tensor.data<int32_t>() + j * tensor.row_stride(), static_cast<size_t>(tensor.cols())};
  }

  std::shared_ptr<Corpus> corpus_;
  std::vector<PositionRange> ranges_;
};

}  // namespace

struct BatchStream::State {
  State(std::unique_ptr<SampleSource> from, StreamPlan how)
      : source(std::move(from)), plan(std::move(how)), order(source->samples(), plan.seed, plan.shuffle) {
    check_plan(plan);
    ring.resize(static_cast<size_t>(plan.prefetch) + 1);  // one of them is with the consumer
    for (Slot& slot : ring) allocate(slot.batch);
    thread = std::thread([this] { run(); });
  }

  ~State() {
    {
      const std::lock_guard guard(mutex);
      stopping = true;
    }
    changed.notify_all();
    thread.join();
  }

  struct Slot {
    StepBatch batch;
    std::exception_ptr error;
    bool end = false;
  };

  int64_t micro_steps() const { return plan.global_batch / (plan.data_ranks * plan.micro_batch); }
  bool limited() const { return plan.sample_limit > 0; }

  void allocate(StepBatch& batch) const {
    for (int64_t m = 0; m < micro_steps(); ++m) {
      batch.micro.push_back(source->make_batch(plan.micro_batch));
      batch.micro.back().sample_ids.assign(static_cast<size_t>(plan.micro_batch), kNoSample);
    }
  }

  // The prefetch thread: fills slot number `step` of the ring, in order, until the end or an error.
  void run() {
    for (int64_t step = 0;; ++step) {
      Slot* slot = wait_for_room(step);
      if (slot == nullptr) return;
      fill(*slot, step);
      const bool last = slot->end || slot->error != nullptr;
      {
        const std::lock_guard guard(mutex);
        ++filled;
      }
      changed.notify_all();
      if (last) return;
    }
  }

  Slot* wait_for_room(int64_t step) {
    std::unique_lock guard(mutex);
    const auto size = static_cast<int64_t>(ring.size());
    changed.wait(guard, [&] { return stopping || step - released < size; });
    return stopping ? nullptr : &ring[static_cast<size_t>(step % size)];
  }

  void fill(Slot& slot, int64_t step) {
    slot.batch.first_sample = plan.first_sample + step * plan.global_batch;
    slot.batch.valid_labels = 0;
    slot.end = limited() && slot.batch.first_sample >= plan.sample_limit;
    if (slot.end) return;
    try {
      ask_ahead(slot.batch.first_sample + 2 * plan.global_batch);
      for (int64_t m = 0; m < micro_steps(); ++m) fill_micro(slot.batch, m);
    } catch (...) {
      slot.error = std::current_exception();
    }
  }

  int64_t sample_number(int64_t first, int64_t m, int64_t j) const {
    return first + (m * plan.data_ranks + plan.data_rank) * plan.micro_batch + j;
  }

  void ask_ahead(int64_t first) {
    for (int64_t m = 0; m < micro_steps(); ++m) {
      for (int64_t j = 0; j < plan.micro_batch; ++j) {
        const int64_t g = sample_number(first, m, j);
        if (!limited() || g < plan.sample_limit) source->prefetch(order.sample(g));
      }
    }
  }

  void fill_micro(StepBatch& batch, int64_t m) {
    MicroBatch& micro = batch.micro[static_cast<size_t>(m)];
    micro.valid_labels = 0;
    for (int64_t j = 0; j < plan.micro_batch; ++j) {
      const int64_t g = sample_number(batch.first_sample, m, j);
      const bool padding = limited() && g >= plan.sample_limit;
      micro.sample_ids[static_cast<size_t>(j)] = padding ? kNoSample : g;
      if (padding) {
        source->pad(j, micro);
      } else {
        micro.valid_labels += read_row(micro, j, g);
      }
    }
    batch.valid_labels += micro.valid_labels;
  }

  int64_t read_row(const MicroBatch& micro, int64_t j, int64_t g) {
    try {
      return source->read(order.sample(g), j, micro);
    } catch (const Error& error) {
      fail(error.kind(), "{}, number {} of the run", error.what(), g);
    }
  }

  // Gives the step of the previous call back, waits for the next one.
  Slot& take(double& waited_ms) {
    using Clock = std::chrono::steady_clock;
    const auto start = Clock::now();
    std::unique_lock guard(mutex);
    if (holding && !at_last) ++released;
    holding = true;
    changed.notify_all();
    changed.wait(guard, [&] { return filled > released; });
    waited_ms = std::chrono::duration<double, std::milli>(Clock::now() - start).count();
    Slot& slot = ring[static_cast<size_t>(released % static_cast<int64_t>(ring.size()))];
    at_last = slot.end || slot.error != nullptr;
    return slot;
  }

  std::unique_ptr<SampleSource> source;
  StreamPlan plan;
  SampleOrder order;
  std::vector<Slot> ring;
  std::mutex mutex;
  std::condition_variable changed;
  int64_t filled = 0, released = 0;  // steps; guarded by mutex
  bool stopping = false;
  bool holding = false, at_last = false;  // the consumer's
  std::thread thread;
};

BatchStream::BatchStream(std::unique_ptr<SampleSource> source, StreamPlan plan)
    : state_(std::make_unique<State>(std::move(source), std::move(plan))) {}

BatchStream::BatchStream(std::shared_ptr<Corpus> corpus, StreamPlan plan)
    : BatchStream(std::make_unique<TokenSource>(std::move(corpus), plan.ranges), plan) {}

BatchStream::~BatchStream() = default;

const StepBatch* BatchStream::next() {
  double waited_ms = 0.0;
  State::Slot& slot = state_->take(waited_ms);
  if (slot.error) std::rethrow_exception(slot.error);
  if (slot.end) return nullptr;
  slot.batch.data_wait_ms = waited_ms;
  return &slot.batch;
}

int64_t BatchStream::micro_steps() const { return state_->micro_steps(); }

}  // namespace farsight
