// SPDX-License-Identifier: Apache-2.0
#include "trainer/language_task.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "data/tokenizer.h"
#include "kernels/error.h"
#include "trainer/collect_model.h"
#include "trainer/cost_model.h"
#include "trainer/generator.h"
#include "trainer/model.h"
#include "trainer/model_spec.h"
#include "trainer/run_device.h"
#include "trainer/run_mesh.h"
#include "trainer/run_tokenizer.h"
#include "trainer/training_step.h"

namespace farsight {

LanguageTask::LanguageTask(const Config& config, const DatasetFiles& files, const std::string& where)
    : config_(config), train_files_(corpora(files.of("train"))) {
  train_ = open_split(files, config.data, "train", /*evaluation=*/false, where);
  if (files.has("valid")) valid_ = open_split(files, config.data, "valid", /*evaluation=*/true, where);
}

std::string LanguageTask::sample_name() const { return fmt::format("sequences of {} tokens", config_.data.sequence); }

SequenceLayout LanguageTask::sequence(const RunLayout& layout) const { return sequence_layout(config_, layout); }

std::unique_ptr<BatchStream> LanguageTask::train_stream(const TaskPlace& place, StreamPlan plan) {
  plan.ranges = reader_ranges(sequence(place.layout), place.mesh.context_index());
  return std::make_unique<BatchStream>(train_, plan);
}

std::unique_ptr<Trainable> LanguageTask::make_model(const MeshShape& mesh, int64_t rank) const {
  return std::make_unique<LanguageModel>(model_spec(config_, train_->tokenizer().vocab_size),
                                         model_sharding(config_, mesh, rank));
}

double LanguageTask::flops_per_token() const {
  return farsight::flops_per_token(config_, model_spec(config_, train_->tokenizer().vocab_size).vocab);
}

ValidationResult LanguageTask::validate(Trainable& model, ParameterShards& shards, const TaskPlace& place,
                                        const std::function<void()>& on_batch) {
  StreamPlan plan = validation_plan(place, valid_->samples(), config_);
  const SequenceLayout layout = sequence(place.layout);
  plan.ranges = reader_ranges(layout, place.mesh.context_index());
  BatchStream stream(valid_, plan);
  const EvaluationResult sums = evaluate(model, place.mesh, &shards, layout, stream, on_batch);
  ValidationResult result;
  result.loss = sums.loss();
  result.metrics.loss = sums.loss();
  if (valid_->bytes_of_text() > 0 && config_.eval.batches == 0) {
    result.metrics.bits_per_byte = sums.loss_sum / (std::log(2.0) * static_cast<double>(valid_->bytes_of_text()));
  }
  result.text = fmt::format(
      "loss {:.4f}  perplexity {:.2f}{}", result.loss, std::exp(result.loss),
      result.metrics.bits_per_byte ? fmt::format("  {:.4f} bits/byte", *result.metrics.bits_per_byte) : std::string());
  return result;
}

std::optional<std::string> LanguageTask::show_sample(Trainable& model, ParameterShards& shards) {
  if (config_.eval.prompt.empty()) return std::nullopt;
  auto& language = dynamic_cast<LanguageModel&>(model);
  // The generator runs on one rank with all weights: where they are shared out, they are collected first.
  const auto collected = collect_model(language, shards);
  if (shards.mesh().world().rank() != 0) return std::nullopt;
  auto tokenizer = make_tokenizer(train_->tokenizer());
  const auto ids = encode(*tokenizer, config_.eval.prompt);
  if (ids.empty()) return std::nullopt;
  std::vector<int32_t> prompt(ids.begin(), ids.end());
  std::optional<HostScope> host;
  if (collected) host.emplace();
  Generator generator(collected ? *collected : language, config_.data.sequence);
  SamplingOptions options;
  options.temperature = 0.8;
  options.seed = static_cast<uint64_t>(config_.run.seed);
  std::string bytes = config_.eval.prompt;
  generator.generate(prompt, config_.eval.sample_tokens, options, static_cast<int32_t>(train_->tokenizer().eos_id),
                     [&](int32_t token) { tokenizer->decode(static_cast<uint32_t>(token), bytes); });
  return bytes;
}

void LanguageTask::describe(StateDescription& description) const {
  description.tokenizer_fingerprint = train_->tokenizer().fingerprint;
  description.datasets = dataset_identities(train_files_);
}

void LanguageTask::save_assets(FileSystem& files, const std::string& directory) const {
  save_tokenizer(files, directory, train_->tokenizer());
}

std::string LanguageTask::next_command(const std::string& directory) const {
  return fmt::format("farsight generate {} --prompt=\"...\"", directory);
}

}  // namespace farsight
