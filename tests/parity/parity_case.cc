// SPDX-License-Identifier: Apache-2.0
#include "tests/parity/parity_case.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <sstream>

#include "kernels/error.h"
#include "parallel/inproc_comm.h"
#include "parallel/mesh.h"
#include "parallel/placement.h"
#include "trainer/commands/data.h"
#include "trainer/model_spec.h"
#include "trainer/optimizer.h"
#include "trainer/training_step.h"

namespace farsight {
namespace {

SequenceOrder order_of(OrderChoice order) { return parse_sequence_order(to_string(order)); }

std::vector<float> copy_of(const Tensor& tensor) {
  const auto span = tensor.span<float>();
  return {span.begin(), span.end()};
}

std::map<std::string, std::vector<float>> values_of(ParameterStore& store) {
  std::map<std::string, std::vector<float>> out;
  for (const auto& p : store.parameters()) out[p.name] = copy_of(p.value);
  return out;
}

std::map<std::string, std::vector<float>> gradients_of(ParameterStore& store) {
  std::map<std::string, std::vector<float>> out;
  for (const auto& p : store.parameters()) out[p.name] = copy_of(p.grad);
  return out;
}

void train_on_rank(Communicator& world, const Config& config, const DatasetFiles& files, int64_t steps,
                   ParityRun& result, std::mutex& mutex) {
  const RunLayout layout = resolve_layout(config, world.size());
  ParallelOptions options;
  options.data = layout.data;
  options.ring = layout.ring;
  options.bucket = config.parallel.bucket_bytes;
  Mesh mesh(world, options);
  const SequenceLayout sequence(order_of(layout.order), config.data.sequence, layout.ring, layout.stripe);
  auto corpus = open_split(files, config.data, "train", /*evaluation=*/false, "");
  LanguageModel model(model_spec(config, corpus->tokenizer().vocab_size));
  model.parameters().initialize(static_cast<uint64_t>(config.run.seed));
  Optimizer optimizer(model.parameters(), config.optim);
  TrainingStep step(model, optimizer, mesh, {static_cast<uint64_t>(config.run.seed), config.optim.clip, sequence},
                    config.parallel.bucket_bytes);
  StreamPlan plan;
  plan.seed = static_cast<uint64_t>(config.run.seed);
  plan.global_batch = config.train.batch_samples;
  plan.data_ranks = layout.data;
  plan.data_rank = mesh.coordinate().dp;
  plan.micro_batch = layout.micro_batch;
  plan.ranges = reader_ranges(sequence, mesh.coordinate().ring);
  BatchStream stream(corpus, plan);
  if (world.rank() == 0) {
    result.initial = values_of(model.parameters());
    result.samples.resize(static_cast<size_t>(steps));
  }
  world.barrier();
  for (int64_t s = 0; s < steps; ++s) {
    const StepBatch* batch = stream.next();
    if (mesh.coordinate().ring == 0) {
      std::lock_guard lock(mutex);
      auto& ids = result.samples[static_cast<size_t>(s)];
      for (const auto& micro : batch->micro) ids.insert(ids.end(), micro.sample_ids.begin(), micro.sample_ids.end());
      std::sort(ids.begin(), ids.end());
    }
    const int64_t targets = step.count_targets(batch->valid_labels);
    auto outcome = step.accumulate(*batch, s, targets);
    if (world.rank() == 0) {
      if (s == 0) result.gradients = gradients_of(model.parameters());
      result.losses.push_back(outcome.loss);
      result.norms.push_back(outcome.grad_norm);
    }
    step.update(outcome, learning_rate(config.optim, s, 0, steps), s);
  }
  check_replicas(world, replica_tensors(model.parameters()));
  if (world.rank() == 0) result.weights = values_of(model.parameters());
}

}  // namespace

ParityRun run_layout(const std::string& config_text, const std::vector<std::string>& layout, int ranks,
                     const DatasetFiles& files, int64_t steps) {
  const Config config = parse_config(config_text, "parity.toml", layout);
  ParityRun result;
  std::mutex mutex;
  run_in_process(ranks, [&](Communicator& world) { train_on_rank(world, config, files, steps, result, mutex); });
  return result;
}

std::string generated_corpus() {
  static const struct Folder {
    Folder() { std::filesystem::create_directories(path); }
    ~Folder() { std::filesystem::remove_all(path); }
    std::filesystem::path path =
        std::filesystem::temp_directory_path() / ("farsight-parity-" + std::to_string(::getpid()));
  } owned;
  static const std::string path = [] {
    const auto& folder = owned.path;
    const std::string text = (folder / "text.txt").string();
    std::ofstream out(text);
    uint64_t state = 1;
    const std::vector<std::string> words{"the", "ring",  "turns", "and",   "every",
                                         "key", "meets", "its",   "query", "once"};
    for (int line = 0; line < 1200; ++line) {
      for (int word = 0; word < 3 + line % 7; ++word) {
        state = state * 6364136223846793005ULL + 1442695040888963407ULL;
        out << words[static_cast<size_t>(state >> 33) % words.size()] << ' ';
      }
      out << "\n\n";
    }
    out.close();
    const std::string file = (folder / "text.h5").string();
    std::ostringstream said;
    const int code = run_data_command(
        {"text", text, "--tokenizer=byte", "--document=blank-line", "--split=0.9/0.1", "--eod", "-o", file}, said,
        said);
    if (code != 0) fail(ErrorKind::internal, "data text failed: {}", said.str());
    return file;
  }();
  return path;
}

std::string shared_data(const std::string& name) {
  const char* root = std::getenv("FARSIGHT_DATA");
  const std::filesystem::path folder = root != nullptr ? root : "../shared/data";
  const auto path = folder / name;
  return std::filesystem::exists(path) ? path.string() : std::string();
}

double relative_difference(const std::vector<float>& a, const std::vector<float>& b, double floor) {
  double difference = 0.0;
  double largest = floor;
  for (size_t i = 0; i < b.size(); ++i) {
    difference = std::max(difference, std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i])));
    largest = std::max(largest, std::abs(static_cast<double>(b[i])));
  }
  return difference / largest;
}

Agreement compare(const ParityRun& run, const ParityRun& reference) {
  Agreement out;
  out.same_initial = run.initial == reference.initial;
  out.first_loss = std::abs(run.losses[0] / reference.losses[0] - 1.0);
  double largest = 0.0;
  for (const auto& [name, g] : reference.gradients) {
    for (const float v : g) largest = std::max(largest, std::abs(static_cast<double>(v)));
  }
  for (const auto& [name, g] : reference.gradients) {
    const double difference = relative_difference(run.gradients.at(name), g, 1e-4 * largest);
    if (difference <= out.worst_gradient) continue;
    out.worst_gradient = difference;
    out.worst_tensor = name;
  }
  for (size_t s = 0; s < reference.losses.size(); ++s) {
    out.last_loss = std::max(out.last_loss, std::abs(run.losses[s] / reference.losses[s] - 1.0));
  }
  return out;
}

}  // namespace farsight
