// SPDX-License-Identifier: Apache-2.0
#include "tests/data/corpus_mutant.h"

#include <fstream>
#include <random>
#include <sstream>

#include "data/corpus.h"
#include "data/sidecar.h"
#include "data/text_corpus.h"
#include "data/verify.h"
#include "kernels/error.h"

namespace farsight {

namespace {

constexpr int64_t kSequence = 50;
constexpr int64_t kTextBytes = 1200;
constexpr uint64_t kPage = 4096;
// Some damage makes libhdf5 loop for ever; the usual limit is a minute.
constexpr ProbeLimits kLimits{.cpu_s = 1, .wall_s = 60};

std::string read_file(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

void write_file(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

std::string damaged(std::string bytes, uint64_t seed) {
  std::mt19937_64 random(seed);
  if (random() % 16 == 0) {
    bytes.resize(random() % ((bytes.size() + kPage - 1) / kPage) * kPage);
    return bytes;
  }
  for (uint64_t flips = 1 + random() % 4; flips > 0; --flips) {
    const uint64_t bit = random() % (8 * bytes.size());
    bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ (1 << (bit % 8)));
  }
  return bytes;
}

std::vector<int32_t> all_tokens(const CorpusDescriptor& file) {
  Corpus corpus({file}, {.sequence = kSequence, .pack = Pack::concat, .evaluation = true});
  std::vector<int32_t> tokens, inputs(kSequence), labels(kSequence);
  const PositionRange all{.begin = 0, .end = kSequence};
  for (int64_t sample = 0; sample < corpus.samples(); ++sample) {
    corpus.read(sample, {&all, 1}, {.inputs = inputs, .labels = labels, .documents = {}});
    for (const int32_t label : labels) {
      if (label >= 0) tokens.push_back(label);
    }
  }
  return tokens;
}

// Runs `work`; false after an error of bad data. Another kind of error is kept as what is wrong.
template <typename Work>
bool succeeds(std::string& wrong, Work work) {
  try {
    work();
    return true;
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::data && error.kind() != ErrorKind::io) wrong = error.what();
  } catch (const std::exception& error) {
    wrong = std::string("foreign exception: ") + error.what();
  }
  return false;
}

}  // namespace

CorpusMutants::CorpusMutants(const std::string& folder, MutantSource source) : mutant_(folder + "/mutant.h5") {
  std::string text;
  for (int64_t i = 0; i < kTextBytes; ++i) text += i % 97 == 96 ? '\n' : static_cast<char>('a' + (i * i / 7 + i) % 26);
  write_file(folder + "/a.txt", text);
  const std::string path = folder + "/good.h5";
  const TextOptions options{.inputs = {folder + "/a.txt"},
                            .output = path,
                            .document = DocumentMode::line,
                            .reproducible = true,
                            .compress = source == MutantSource::compressed,
                            .overwrite = true};
  uuid_ = write_text_corpus(options, [](const TextProgress&) {}).uuid;
  good_ = read_file(path);
  good_sum_ = read_file(sidecar_path(path));
  tokens_ = all_tokens(probe_corpus(path));
}

std::string CorpusMutants::check(uint64_t seed) {
  const std::string bytes = damaged(good_, seed);
  if (bytes == good_) return "";  // two flips of one bit
  write_file(mutant_, bytes);
  std::remove(sidecar_path(mutant_).c_str());
  std::string wrong = try_to_read();
  if (wrong.empty()) wrong = try_to_verify();
  if (wrong.empty()) wrong = try_with_checksums();
  return wrong;
}

std::string CorpusMutants::try_to_read() {
  std::string wrong;
  CorpusDescriptor file;
  if (!succeeds(wrong, [&] { file = probe_corpus(mutant_, kLimits); })) {
    ++counts_.refused;
    return wrong;
  }
  // Without a checksum file nothing that needs libhdf5 is read in this process.
  const bool read = succeeds(wrong, [&] { all_tokens(file); });
  ++(read ? counts_.read : counts_.failed);
  return wrong;
}

std::string CorpusMutants::try_to_verify() {
  std::string wrong;
  CorpusReport report;
  if (!succeeds(wrong, [&] { report = verify_corpus(mutant_, kLimits); }) || !report.unhashed.empty()) return wrong;
  ++counts_.verified;
  if (!succeeds(wrong, [&] {
        if (all_tokens(probe_corpus(mutant_, kLimits)) != tokens_) wrong = "verification passed other tokens";
      })) {
    return wrong.empty() ? "verified, but not readable" : wrong;
  }
  return wrong;
}

std::string CorpusMutants::try_with_checksums() {
  write_file(sidecar_path(mutant_), good_sum_);
  std::string wrong;
  if (succeeds(wrong, [&] { verify_sidecar(mutant_, uuid_); })) return "the checksum file noticed nothing";
  if (wrong.empty() && succeeds(wrong, [&] { verify_corpus(mutant_, kLimits); })) return "data verify noticed nothing";
  return wrong;
}

}  // namespace farsight
