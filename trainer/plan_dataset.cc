// SPDX-License-Identifier: Apache-2.0
#include "trainer/plan_dataset.h"

#include <filesystem>

#include <fmt/format.h>

#include "data/corpus.h"
#include "kernels/error.h"
#include "trainer/config_check.h"

namespace farsight {
namespace {

void check_split(const CorpusDescriptor& corpus, const char* split, const std::string& position, DatasetFacts& facts) {
  if (corpus.find(split) == nullptr)
    facts.problems.push_back(fmt::format("{}: error: {} has no split '{}'", position, corpus.file, split));
}

void add_samples(const CorpusDescriptor& corpus, const Config& config, const std::string& position,
                 DatasetFacts& facts) {
  const SplitDescriptor* train = corpus.find("train");
  if (train == nullptr) return;
  const int64_t samples = (train->tokens.size - 1) / config.data.sequence;
  if (samples < 1)
    facts.problems.push_back(fmt::format("{}: error: {} holds {} training tokens, fewer than a sample of {} needs",
                                         position, corpus.file, train->tokens.size, config.data.sequence + 1));
  facts.epoch_samples += samples;
}

void add_vocabulary(const CorpusDescriptor& corpus, const Config& config, DatasetFacts& facts) {
  const int64_t found = corpus.tokenizer.vocab_size;
  facts.vocab = std::max(facts.vocab, found);
  if (config.model.vocab > 0 && config.model.vocab < found)
    facts.problems.push_back(fmt::format(
        "{}: error: model.vocab = {} is smaller than the {} ids of {}; set \"auto\" or at least {}",
        first_origin(config, {"model.vocab"}, "configuration"), config.model.vocab, found, corpus.file, found));
}

void examine(const std::string& file, const char* key, const char* split, const Config& config, DatasetFacts& facts) {
  const std::string position = first_origin(config, {key}, "configuration");
  std::error_code code;
  if (!std::filesystem::exists(file, code)) {
    facts.present = false;
    return facts.notes.push_back(fmt::format("{} does not exist yet: its contents are not checked", file));
  }
  try {
    const CorpusDescriptor corpus = probe_corpus(file);
    check_split(corpus, split, position, facts);
    add_vocabulary(corpus, config, facts);
    if (std::string(split) == "train") add_samples(corpus, config, position, facts);
  } catch (const Error& error) {
    facts.present = false;
    facts.problems.push_back(fmt::format("{}: error: {}", position, error.what()));
  }
}

}  // namespace

DatasetFacts dataset_facts(const Config& config) {
  DatasetFacts facts;
  facts.present = true;
  for (const std::string& file : config.data.train) examine(file, "data.train", "train", config, facts);
  for (const std::string& file : config.data.valid) examine(file, "data.valid", "valid", config, facts);
  for (const std::string& file : config.data.test) examine(file, "data.test", "test", config, facts);
  facts.present = facts.present && facts.epoch_samples > 0;
  return facts;
}

}  // namespace farsight
