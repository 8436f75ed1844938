// SPDX-License-Identifier: Apache-2.0
#include "tests/data/data_mutant.h"

#include <fstream>
#include <random>
#include <sstream>

#include "data/probe.h"
#include "data/series_windows.h"
#include "data/sidecar.h"
#include "data/text_corpus.h"
#include "data/verify.h"
#include "kernels/error.h"
#include "tests/data/series_sample.h"

namespace farsight {

namespace {

constexpr int64_t kSequence = 50;
constexpr int64_t kTextBytes = 1200;
constexpr uint64_t kTable = 8;  // one with masks, static numbers and several series
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

std::string contents_of(const CorpusDescriptor& file) {
  Corpus corpus({file}, {.sequence = kSequence, .pack = Pack::concat, .evaluation = true});
  std::vector<int32_t> inputs(kSequence), labels(kSequence);
  const PositionRange all{.begin = 0, .end = kSequence};
  std::string tokens;
  for (int64_t sample = 0; sample < corpus.samples(); ++sample) {
    corpus.read(sample, {&all, 1}, {.inputs = inputs, .labels = labels, .documents = {}});
    for (const int32_t label : labels) {
      if (label >= 0) tokens += fmt::format("{} ", label);
    }
  }
  return tokens;
}

// Names are left out: libhdf5 keeps strings of datasets without a checksum of its own.
std::string contents_of(const SeriesDescriptor& file) {
  SeriesFiles files({file}, {});
  std::string found;
  for (int64_t s = 0; s < files.series_count(); ++s) {
    const int64_t rows = files.rows(s), cells = rows * files.channel_count();
    const float* values = files.values(s, 0, rows);
    found.append(reinterpret_cast<const char*>(values), static_cast<size_t>(4 * cells));
    const uint8_t* mask = files.mask(s, 0, rows);
    if (mask != nullptr) found.append(reinterpret_cast<const char*>(mask), static_cast<size_t>(cells));
    for (int64_t t = 0; t < rows; ++t) found += fmt::format("{} ", files.time(s, t));
    for (const float value : files.statics(s)) found += fmt::format("{} ", value);
  }
  for (const Channel& channel : file.channels) found += to_string(channel.role);
  for (const ChannelStatistics& s : file.statistics) found += fmt::format("{} {} {} ", s.mean, s.std, s.count);
  for (const auto& [name, ranges] : file.splits) {
    for (const SplitRange& r : ranges) found += fmt::format("{} {} {} {} ", name, r.series, r.begin, r.end);
  }
  return found;
}

std::string contents(const DataDescriptor& file) {
  return std::visit([](const auto& descriptor) { return contents_of(descriptor); }, file);
}

const VerifyReport& common(const DataReport& report) {
  return std::visit([](const auto& any) -> const VerifyReport& { return any; }, report);
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

DataMutants::DataMutants(const std::string& folder, MutantSource source) : mutant_(folder + "/mutant.h5") {
  const std::string path = write_good(folder, source);
  good_ = read_file(path);
  good_sum_ = read_file(sidecar_path(path));
  const DataDescriptor file = probe_data(path);
  uuid_ = std::visit([](const auto& descriptor) { return descriptor.uuid; }, file);
  contents_ = contents(file);
}

std::string DataMutants::write_good(const std::string& folder, MutantSource source) const {
  std::string path = folder + "/good.h5";
  const bool compress = source == MutantSource::compressed_corpus || source == MutantSource::compressed_series;
  if (source == MutantSource::series || source == MutantSource::compressed_series) {
    return write_table(path, random_table(kTable, {.frequency = {.step_ns = 1'000'000'000, .months = 0}}), compress);
  }
  std::string text;
  for (int64_t i = 0; i < kTextBytes; ++i) text += i % 97 == 96 ? '\n' : static_cast<char>('a' + (i * i / 7 + i) % 26);
  write_file(folder + "/a.txt", text);
  write_text_corpus({.inputs = {folder + "/a.txt"},
                     .output = path,
                     .document = DocumentMode::line,
                     .reproducible = true,
                     .compress = compress,
                     .overwrite = true},
                    [](const TextProgress&) {});
  return path;
}

std::string DataMutants::check(uint64_t seed) {
  const std::string bytes = damaged(good_, seed);
  if (bytes == good_) return "";  // two flips of one bit
  write_file(mutant_, bytes);
  std::remove(sidecar_path(mutant_).c_str());
  std::string wrong = try_to_read();
  if (wrong.empty()) wrong = try_to_verify();
  if (wrong.empty()) wrong = try_with_checksums();
  return wrong;
}

std::string DataMutants::try_to_read() {
  std::string wrong;
  DataDescriptor file;
  if (!succeeds(wrong, [&] { file = probe_data(mutant_, kLimits); })) {
    ++counts_.refused;
    return wrong;
  }
  // Without a checksum file nothing that needs libhdf5 is read in this process.
  const bool read = succeeds(wrong, [&] { contents(file); });
  ++(read ? counts_.read : counts_.failed);
  return wrong;
}

std::string DataMutants::try_to_verify() {
  std::string wrong;
  DataReport report;
  if (!succeeds(wrong, [&] { report = verify_data(mutant_, kLimits); }) || !common(report).unhashed.empty())
    return wrong;
  ++counts_.verified;
  if (!succeeds(wrong, [&] {
        if (contents(probe_data(mutant_, kLimits)) != contents_) wrong = "verification passed other numbers";
      })) {
    return wrong.empty() ? "verified, but not readable" : wrong;
  }
  return wrong;
}

std::string DataMutants::try_with_checksums() {
  write_file(sidecar_path(mutant_), good_sum_);
  std::string wrong;
  if (succeeds(wrong, [&] { verify_sidecar(mutant_, uuid_); })) return "the checksum file noticed nothing";
  if (wrong.empty() && succeeds(wrong, [&] { verify_data(mutant_, kLimits); })) return "data verify noticed nothing";
  return wrong;
}

}  // namespace farsight
