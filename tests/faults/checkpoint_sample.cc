// SPDX-License-Identifier: Apache-2.0
#include "tests/faults/checkpoint_sample.h"

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <limits>
#include <stdexcept>

#include <fmt/format.h>

#include "kernels/error.h"
#include "parallel/inproc_comm.h"

namespace farsight {
namespace {

SliceBox whole(const SampleTensor& tensor) {
  return {tensor.name, tensor.dtype, tensor.shape, Shape(tensor.shape.size(), 0), tensor.shape};
}

}  // namespace

std::vector<SampleTensor> sample_tensors() {
  return {{"embedding.weight", DType::f32, {127, 48}},
          {"layers.0.attention.q.weight", DType::f32, {96, 96}},
          {"layers.0.attention.relative_bias", DType::f32, {1, 1, 33, 7}},
          {"layers.0.norm.weight", DType::f32, {97}},
          {"optim.m/layers.0.attention.q.weight", DType::f32, {96, 96}},
          {"optim.v/embedding.weight", DType::f64, {127, 48}},
          {"half", DType::bf16, {17, 3, 5}},
          {"empty", DType::f32, {0, 8}},
          {"scalar", DType::f64, {}},
          {"counts", DType::i64, {3}},
          {"bytes", DType::u8, {150'001}}};
}

std::vector<SampleTensor> tiny_tensors() {
  return {{"a", DType::f32, {7, 3}}, {"b", DType::u8, {65}}, {"c", DType::f64, {}}};
}

std::byte sample_byte(const std::string& name, int64_t step, int64_t i) {
  uint64_t h = 1469598103934665603ULL + static_cast<uint64_t>(step) * 0x9E3779B97F4A7C15ULL;
  for (const char c : name) h = (h ^ static_cast<unsigned char>(c)) * 1099511628211ULL;
  h = (h ^ static_cast<uint64_t>(i)) * 0xD6E8FEB86659FD93ULL;
  return static_cast<std::byte>((h >> 56) | 1U);
}

SampleState::SampleState(std::vector<SampleTensor> tensors, int64_t step) : tensors_(std::move(tensors)), step_(step) {
  for (const SampleTensor& tensor : tensors_) {
    std::vector<std::byte>& data = data_[tensor.name];
    data.resize(static_cast<size_t>(byte_count(whole(tensor))));
    for (size_t i = 0; i < data.size(); ++i) data[i] = sample_byte(tensor.name, step_, static_cast<int64_t>(i));
  }
}

std::vector<TensorSlice> SampleState::slices() const {
  std::vector<TensorSlice> slices;
  for (const SampleTensor& tensor : tensors_) slices.push_back({whole(tensor), data_.at(tensor.name).data()});
  return slices;
}

CheckpointState SampleState::state() const {
  CheckpointState state;
  state.step = step_;
  state.tokens = step_ * 4096;
  state.epoch = 2;
  state.samples_consumed = step_ * 8;
  state.seed = std::numeric_limits<uint64_t>::max();
  state.shuffle_seed = 7;
  state.config_text = "[model]\nlayers = 4  # caf\xc3\xa9 \"quoted\"\n";
  state.config_hash = "0123abcd";
  state.code_version = "0.1.0+abc";
  state.tokenizer_fingerprint = "fp";
  state.datasets = {{"corpus.h5", 123456, 1'700'000'000'123'456'789, 1000, "deadbeef"}};
  state.learning_rate = {{"base", 1e-3}, {"last", 9.7e-4}};
  state.loss_statistics = {{"best", 2.413}, {"worst", std::numeric_limits<double>::infinity()}};
  state.recent_losses = {2.5, 0.1 + 0.2, -std::numeric_limits<double>::infinity()};
  state.skipped_windows = {{100, 200}, {300, 300}};
  state.wall_times = {{"train", 12.5}};
  state.world = 2;
  state.mesh = {{"data", 1}, {"ring", 2}};
  return state;
}

Snapshot SampleState::snapshot(const Communicator& world) const {
  return {state(), writer_share(slices(), world.rank(), world.size())};
}

CheckpointOptions sample_options(const std::string& directory) {
  CheckpointOptions options;
  options.directory = directory;
  options.chunk_bytes = 64 << 10;
  return options;
}

StepReport save_sample(FileSystem& files, Communicator& world, const CheckpointOptions& options,
                       const std::vector<SampleTensor>& tensors, int64_t step, const RunLock* lock) {
  const SampleState sample(tensors, step);
  CheckpointWriter writer(options, files, world, lock);
  return writer.step({/*save=*/true, /*wait=*/true, {}}, [&] { return sample.snapshot(world); });
}

void save_on_ranks(FileSystem& files, int ranks, const CheckpointOptions& options,
                   const std::vector<SampleTensor>& tensors, int64_t step) {
  run_in_process(ranks, [&](Communicator& world) {
    const StepReport report = save_sample(files, world, options, tensors, step);
    if (report.committed_step != step) throw std::runtime_error("not committed: " + report.failures.at(0));
  });
}

SampleTargets::SampleTargets(const std::vector<SampleTensor>& tensors) : tensors_(tensors) {
  for (const SampleTensor& tensor : tensors_) {
    data_[tensor.name].assign(static_cast<size_t>(byte_count(whole(tensor))), std::byte{0});
  }
}

std::vector<TensorTarget> SampleTargets::targets() {
  std::vector<TensorTarget> targets;
  for (const SampleTensor& tensor : tensors_) targets.push_back({whole(tensor), data_.at(tensor.name).data()});
  return targets;
}

std::string SampleTargets::mismatch(int64_t step) const {
  for (const auto& [name, data] : data_) {
    for (size_t i = 0; i < data.size(); ++i) {
      if (data[i] != sample_byte(name, step, static_cast<int64_t>(i))) return fmt::format("{} byte {}", name, i);
    }
  }
  return {};
}

int64_t load_sample(FileSystem& files, const std::string& directory, const ResumeRequest& request,
                    const std::vector<SampleTensor>& tensors, std::vector<std::string>* notes) {
  SampleTargets targets(tensors);
  const auto world = make_self_communicator();
  const LoadedCheckpoint loaded =
      load_checkpoint(request, directory, files, *world, [&](const Manifest&) { return targets.targets(); });
  if (notes != nullptr) notes->insert(notes->end(), loaded.notes.begin(), loaded.notes.end());
  if (!loaded.manifest) return -1;
  const int64_t step = loaded.manifest->state.step;
  const std::string wrong = targets.mismatch(step);
  if (!wrong.empty()) throw std::runtime_error("loaded step " + std::to_string(step) + ", wrong bytes in " + wrong);
  return step;
}

std::string load_error(FileSystem& files, const std::string& directory, const ResumeRequest& request,
                       const std::vector<SampleTensor>& tensors, int* exit_code_out) {
  try {
    load_sample(files, directory, request, tensors);
  } catch (const Error& error) {
    if (exit_code_out != nullptr) *exit_code_out = exit_code(error.kind());
    return error.what();
  }
  return {};
}

std::vector<std::string> leftovers(FileSystem& files, const std::string& directory) {
  std::vector<std::string> found;
  for (const std::string& name : list_sorted(files, directory)) {
    if (name.starts_with(".tmp-") || name.starts_with(".trash-")) found.push_back(name);
  }
  return found;
}

ScratchDirectory::ScratchDirectory() {
  std::string pattern = (std::filesystem::temp_directory_path() / "farsight-XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("cannot make a scratch directory");
  path_ = pattern;
}

ScratchDirectory::~ScratchDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace farsight
