// SPDX-License-Identifier: Apache-2.0
#include "trainer/checkpoint/writer.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <deque>
#include <random>
#include <utility>

#include <fmt/format.h>

#include "kernels/error.h"
#include "parallel/agree.h"
#include "parallel/text_exchange.h"
#include "trainer/checkpoint/background_job.h"
#include "trainer/checkpoint/checkpoint_directory.h"
#include "trainer/checkpoint/commit.h"

namespace farsight {
namespace {

using Clock = std::chrono::steady_clock;
constexpr int64_t kFailureIo = 1;
constexpr int64_t kFailureLock = 2;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

std::string random_uuid() {
  std::random_device source;
  return fmt::format("{:08x}-{:08x}-{:08x}-{:08x}", source(), source(), source(), source());
}

void check_options(const CheckpointOptions& options) {
  const bool chunk_ok = options.chunk_bytes >= kMinChunk && options.chunk_bytes <= kMaxChunk &&
                        options.chunk_bytes % kShardDataAlign == 0;
  if (!chunk_ok) {
    fail(ErrorKind::config, "checkpoint.chunk = {} bytes; it must be a multiple of {} from {} to {}",
         options.chunk_bytes, kShardDataAlign, kMinChunk, kMaxChunk);
  }
  if (options.keep < 1) fail(ErrorKind::config, "checkpoint.keep = {}; at least 1 must stay", options.keep);
  if (options.keep_every < 0) fail(ErrorKind::config, "checkpoint.keep_every = {} is negative", options.keep_every);
  if (options.buffers < 1 || options.buffers > 8) {
    fail(ErrorKind::config, "checkpoint.buffers = {}; use 1 to 8", options.buffers);
  }
  if (options.fail_limit < 1) fail(ErrorKind::config, "checkpoint.fail_limit = {}; use 1 or more", options.fail_limit);
}

// A save from its copy to its commit or drop. At each stage this rank's job may run; the next stage begins only when
// the jobs of all ranks are known to be done.
struct Save {
  enum class Stage : uint8_t { queued, writing, committing, dropping } stage = Stage::queued;
  CheckpointState state;
  ShardHeader header;
  std::string uuid, temporary;
  size_t buffer = 0;
  int64_t image_bytes = 0;
  // Written by the job, read once it is done:
  ShardFile file;
  int64_t failure = 0;
  std::string message, warning;
  double write_s = 0;
  // The verdict, equal on all ranks once dropping:
  int64_t agreed_failure = 0;
  std::string verdict;
};

}  // namespace

struct CheckpointWriter::Implementation {
  CheckpointOptions options;
  FileSystem& files;
  Communicator& world;
  const RunLock* lock;
  std::vector<Tensor> buffers;  // images of the data part
  std::deque<Save> saves;       // oldest first; only the oldest has a job
  int64_t failures_in_a_row = 0;
  CheckpointMetrics metrics;
  BackgroundJob job;  // last: its thread ends before anything it uses

  Implementation(CheckpointOptions o, FileSystem& f, Communicator& w, const RunLock* l)
      : options(std::move(o)), files(f), world(w), lock(l), buffers(static_cast<size_t>(options.buffers)) {}

  // ---- starting a save -------------------------------------------------------------------------------------------

  std::span<std::byte> reserve(size_t buffer, int64_t bytes) {
    Tensor& tensor = buffers[buffer];
    if (!tensor.defined() || tensor.bytes() < bytes) {
      tensor = Tensor();  // give the old one back first
      tensor = Tensor::zeros({bytes}, DType::u8, MemoryTag::other, Device::cpu);
    }
    return {static_cast<std::byte*>(tensor.raw()), static_cast<size_t>(bytes)};
  }

  size_t free_buffer() const {
    size_t buffer = 0;
    const auto used = [&](const Save& save) { return save.buffer == buffer; };
    while (std::any_of(saves.begin(), saves.end(), used)) ++buffer;
    return buffer;
  }

  Save copy(const std::function<Snapshot()>& snapshot) {
    Save save;
    Snapshot taken = snapshot();
    save.header =
        plan_shard(taken.state.step, world.rank(), world.size(), options.chunk_bytes, std::span(taken.slices));
    save.image_bytes = data_part_bytes(save.header);
    save.buffer = free_buffer();
    pack_shard(save.header, taken.slices, reserve(save.buffer, save.image_bytes));
    save.state = std::move(taken.state);
    return save;
  }

  void begin(const std::function<Snapshot()>& snapshot) {
    const auto start = Clock::now();
    Save save;
    together(world, [&] { save = copy(snapshot); });
    save.uuid = broadcast_text(world, world.rank() == 0 ? random_uuid() : "", 0);
    save.temporary = fmt::format("{}/.tmp-{}-{}", options.directory, step_name(save.state.step), save.uuid);
    saves.push_back(std::move(save));
    if (saves.size() == 1) start_write(saves.front());
    metrics.last_stall_ms = 1e3 * seconds_since(start);
    metrics.stall_ms += metrics.last_stall_ms;
  }

  // ---- jobs on the background thread -----------------------------------------------------------------------------

  template <typename Work>
  void run(Save& save, Work work) {
    job.start([&save, work = std::move(work)] {
      try {
        work();
      } catch (const Error& error) {
        save.failure = error.kind() == ErrorKind::environment ? kFailureLock : kFailureIo;
        save.message = error.what();
      } catch (const std::exception& error) {
        save.failure = kFailureIo;
        save.message = error.what();
      }
    });
  }

  void start_write(Save& save) {
    save.stage = Save::Stage::writing;
    run(save, [this, &save] {
      const auto start = Clock::now();
      // Every rank makes the directory if it is not there: nobody waits for rank 0, and no rank has to see a name that
      // another client of the storage made.
      const int made = files.make_directory(save.temporary);
      if (made != -EEXIST) check_io(made, "cannot make directory", save.temporary);
      const Tensor& image = buffers[save.buffer];
      save.file = write_shard(files, save.temporary, save.header,
                              {static_cast<const std::byte*>(image.raw()), static_cast<size_t>(save.image_bytes)});
      save.write_s = seconds_since(start);
    });
  }

  void start_commit(Save& save) {
    save.stage = Save::Stage::committing;
    std::vector<std::string> texts = gather_texts_at_root(world, encode_written_shard({save.file, save.header}));
    if (world.rank() != 0) return;
    run(save, [this, &save, texts = std::move(texts)] {
      std::vector<WrittenShard> shards;
      for (const std::string& text : texts) shards.push_back(decode_written_shard(text));
      commit_checkpoint(files, options.directory, save.temporary, assemble_manifest(save.state, save.uuid, shards),
                        lock);
      tidy(save, [this] {
        apply_retention(files, options.directory, {options.keep, options.keep_every, options.loaded_step});
      });
    });
  }

  void start_drop(Save& save, int64_t failure) {
    save.stage = Save::Stage::dropping;
    save.agreed_failure = failure;
    save.verdict = describe_failure(save);
    if (world.rank() != 0) return;
    run(save, [this, &save] { tidy(save, [this, &save] { remove_tree(files, save.temporary); }); });
  }

  // What fails here harms no checkpoint; the next start cleans up.
  template <typename Work>
  static void tidy(Save& save, Work work) {
    try {
      work();
    } catch (const Error& error) {
      save.warning = error.what();
    }
  }

  std::string describe_failure(const Save& save) {
    const std::vector<std::string> texts = gather_texts(world, save.failure != 0 ? save.message : "");
    std::string verdict = fmt::format("checkpoint step {} dropped:", save.state.step);
    for (size_t rank = 0; rank < texts.size(); ++rank) {
      if (!texts[rank].empty()) verdict += fmt::format(" rank {}: {};", rank, texts[rank]);
    }
    verdict.pop_back();
    return verdict;
  }

  // ---- stages, driven by agreed values ---------------------------------------------------------------------------

  void advance(int64_t failure, StepReport& report) {
    Save& save = saves.front();
    switch (save.stage) {
      case Save::Stage::queued:
        return;  // never the oldest
      case Save::Stage::writing:
        metrics.write_s += save.write_s;
        if (failure != 0) return start_drop(save, failure);
        return start_commit(save);
      case Save::Stage::committing:
        if (failure != 0) return start_drop(save, failure);
        return committed(save, report);
      case Save::Stage::dropping:
        return dropped(save, report);
    }
  }

  void committed(const Save& save, StepReport& report) {
    failures_in_a_row = 0;
    ++metrics.committed;
    metrics.bytes += save.file.bytes;
    metrics.last_committed_step = report.committed_step = save.state.step;
    retire(save, report);
  }

  void dropped(const Save& save, StepReport& report) {
    ++metrics.failed;
    ++failures_in_a_row;
    const std::string verdict = save.verdict;
    const int64_t failure = save.agreed_failure;
    report.failures.push_back(verdict);
    retire(save, report);
    if (failure == kFailureLock) fail(ErrorKind::environment, "{}", verdict);
    if (failures_in_a_row < options.fail_limit) return;
    fail(ErrorKind::io, "{}; {} saves in a row failed, {}", verdict, failures_in_a_row,
         metrics.last_committed_step < 0 ? "none was committed in this run"
                                         : fmt::format("the last good one is step {}", metrics.last_committed_step));
  }

  void retire(const Save& save, StepReport& report) {
    if (!save.warning.empty()) report.warnings.push_back(save.warning);
    saves.pop_front();
    if (!saves.empty()) start_write(saves.front());
  }

  SaveStatus status() const {
    if (saves.empty()) return {};
    if (!job.done()) return {1, 0};
    return {0, saves.front().failure};
  }

  // Until no more than `left` saves are in flight.
  void drain(size_t left, StepReport& report) {
    while (saves.size() > left) {
      job.wait(options.waiting);
      std::array<int64_t, 1> failure{status().failure};
      world.all_reduce(std::span<int64_t>(failure), ReduceOp::max);
      advance(failure[0], report);
    }
  }

  StepReport step(const AgreedFlags& agreed, const std::function<Snapshot()>& snapshot) {
    StepReport report;
    if (!saves.empty() && agreed.saving.busy == 0) advance(agreed.saving.failure, report);
    if (agreed.save) {
      const bool patient = agreed.wait || !options.async;
      report.skipped = !patient && saves.size() >= buffers.size();
      if (report.skipped) ++metrics.skipped;
      if (patient) drain(buffers.size() - 1, report);
      if (!report.skipped) begin(snapshot);
    }
    if (agreed.wait || !options.async) drain(0, report);
    return report;
  }
};

CheckpointWriter::CheckpointWriter(CheckpointOptions options, FileSystem& files, Communicator& world,
                                   const RunLock* lock) {
  check_options(options);
  together(world, [&] {
    if (world.rank() == 0) make_directories(files, options.directory);
  });
  implementation_ = std::make_unique<Implementation>(std::move(options), files, world, lock);
}

CheckpointWriter::~CheckpointWriter() = default;

void CheckpointWriter::reserve(int64_t bytes) {
  for (size_t i = 0; i < implementation_->buffers.size(); ++i) implementation_->reserve(i, bytes);
}

SaveStatus CheckpointWriter::status() const { return implementation_->status(); }

StepReport CheckpointWriter::step(const AgreedFlags& agreed, const std::function<Snapshot()>& snapshot) {
  return implementation_->step(agreed, snapshot);
}

StepReport CheckpointWriter::finish() {
  StepReport report;
  implementation_->drain(0, report);
  return report;
}

CheckpointMetrics CheckpointWriter::metrics() const { return implementation_->metrics; }

}  // namespace farsight
