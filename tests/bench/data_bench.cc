// SPDX-License-Identifier: Apache-2.0
// One core's speed of tokenising real texts (FARSIGHT_DATA, each text encoded once), of reading samples from a corpus
// of 20 M tokens, and of reading windows from 400,000 rows of 64 channels, both in the page cache.
//   data_bench [--scratch FOLDER] [--only tokenise|corpus|series]
// Columns: what, figure (best of the repeats), target of the data chapter, ratio to a plain copy of the same bytes in
// the same run: memcpy for tokenising, memcpy or pread into one buffer at the same offsets for samples, fread for
// sequential reading. Results are checked before they are timed.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <numeric>
#include <sstream>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "data/byte_tokenizer.h"
#include "data/corpus.h"
#include "data/corpus_writer.h"
#include "data/file.h"
#include "data/probe.h"
#include "data/sample_order.h"
#include "data/series_windows.h"
#include "data/series_writer.h"
#include "data/tokenizer.h"
#include "kernels/error.h"

namespace farsight {
namespace {

constexpr int64_t kTokens = 20'000'000;
constexpr int64_t kPiece = 1 << 20;
constexpr int kRepeats = 5;

double seconds_of(const std::function<void()>& work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

double best_of(int repeats, const std::function<void()>& work) {
  double best = seconds_of(work);
  for (int i = 1; i < repeats; ++i) best = std::min(best, seconds_of(work));
  return best;
}

void print(const std::string& what, const std::string& figure, const std::string& target, double ratio) {
  fmt::print("{:44} {:>16}  target {:>12}  {:.3f} of a copy\n", what, figure, target, ratio);
  std::fflush(stdout);
}

std::string read_text(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

std::vector<std::string> real_texts(const std::string& folder) {
  std::vector<std::string> texts;
  for (const char* name : {"text/tinyshakespeare.txt", "text/wikitext-2/valid.txt", "text/wikitext-2/test.txt",
                           "text/tatoeba_eng_cmn.tsv", "text/gutenberg/pg1342_pride_and_prejudice.txt",
                           "text/gutenberg/pg1399_anna_karenina.txt", "text/gutenberg/pg1661_sherlock_holmes.txt",
                           "text/gutenberg/pg2600_war_and_peace.txt", "text/gutenberg/pg2701_moby_dick.txt"}) {
    if (std::filesystem::exists(folder + "/" + name)) texts.push_back(read_text(folder + "/" + name));
  }
  return texts;
}

void bench_tokenizer(const std::string& name, const Tokenizer& tokenizer, const std::vector<std::string>& texts,
                     const std::string& target) {
  size_t bytes = 0;
  for (const std::string& text : texts) {
    const auto fresh = tokenizer.clone();
    if (decode(*fresh, encode(*fresh, text)) != text) fail(ErrorKind::internal, "{}: not decoded as encoded", name);
    bytes += text.size();
  }
  const auto run = [&] {
    std::vector<uint32_t> ids;
    const auto fresh = tokenizer.clone();  // its cache of pre-tokens is empty
    for (const std::string& text : texts) {
      ids.clear();
      fresh->encode(text, ids);
    }
  };
  std::string copy;
  const double copying = best_of(kRepeats, [&] {
    for (const std::string& text : texts) {
      copy.resize(text.size());
      std::memcpy(copy.data(), text.data(), text.size());
    }
  });
  const double seconds = best_of(kRepeats, run);
  print(fmt::format("tokenise, {} ({:.1f} MB)", name, static_cast<double>(bytes) / 1e6),
        fmt::format("{:.1f} MB/s", static_cast<double>(bytes) / seconds / 1e6), target, copying / seconds);
}

// 20 M byte tokens in documents of 5,000.
std::string write_corpus_of_bytes(const std::string& folder, bool compress) {
  TokenSpool spool(folder, 2, 1);
  std::vector<uint16_t> document(5'000);
  uint64_t state = 1;
  for (int64_t at = 0; at < kTokens; at += static_cast<int64_t>(document.size())) {
    for (uint16_t& token : document) {
      state = state * 6364136223846793005U + 1442695040888963407U;
      token = static_cast<uint16_t>('a' + (state >> 60));
    }
    spool.append(document.data(), static_cast<int64_t>(document.size()));
    spool.end_document(0, static_cast<int64_t>(document.size()), 0);
  }
  const std::string path = folder + (compress ? "/archive.h5" : "/plain.h5");
  CorpusHeader header;
  header.tokenizer = make_byte_tokenizer()->info();
  header.splits = {"train"};
  header.compress = compress;
  write_corpus(path, header, spool);
  return path;
}

// Reads samples in the given order through a Corpus.
class SampleReader {
 public:
  SampleReader(const std::string& path, int64_t sequence, DataIo io, Pack pack)
      : corpus_({describe_corpus(path)}, {.sequence = sequence, .pack = pack, .io = io}),
        all_{.begin = 0, .end = sequence},
        inputs_(static_cast<size_t>(sequence)),
        labels_(inputs_.size()),
        documents_(pack == Pack::documents ? inputs_.size() : 0) {}

  int64_t samples() const { return corpus_.samples(); }
  void read(int64_t sample) {
    const int64_t targets =
        corpus_.read(sample, {&all_, 1}, {.inputs = inputs_, .labels = labels_, .documents = documents_});
    if (targets == 0) fail(ErrorKind::internal, "sample {} has no target", sample);
  }

 private:
  Corpus corpus_;
  PositionRange all_;
  std::vector<int32_t> inputs_, labels_, documents_;
};

std::vector<int64_t> shuffled_samples(int64_t n) {
  const SampleOrder order(n, 42, Shuffle::samples);
  std::vector<int64_t> samples(static_cast<size_t>(n));
  std::iota(samples.begin(), samples.end(), 0);
  for (int64_t& sample : samples) sample = order.sample(sample);
  return samples;
}

void bench_random(const std::string& path, const std::string& name, DataIo io, Pack pack) {
  constexpr int64_t kSequence = 1024;
  SampleReader reader(path, kSequence, io, pack);
  const std::vector<int64_t> order = shuffled_samples(reader.samples());
  const ArrayDescriptor array = describe_corpus(path).splits[0].tokens;
  const File file = File::open_read(path);
  const std::string bytes = read_text(path);
  std::vector<char> buffer(2 * (kSequence + 1));
  volatile char sink = 0;
  const double copying = best_of(kRepeats, [&] {
    for (const int64_t sample : order) {
      const int64_t offset = array.offset + 2 * sample * kSequence;
      if (io == DataIo::map) {
        std::memcpy(buffer.data(), bytes.data() + offset, buffer.size());
      } else {
        file.read_at(offset, buffer.data(), buffer.size());
      }
      sink = buffer[static_cast<size_t>(sample) % buffer.size()];
    }
  });
  const double seconds = best_of(kRepeats, [&] {
    for (const int64_t sample : order) reader.read(sample);
  });
  print(fmt::format("random reads of 1025 tokens, {}", name),
        fmt::format("{:.0f} k/s", static_cast<double>(order.size()) / seconds / 1e3), "120 k/s", copying / seconds);
}

double fread_seconds(const std::string& path) {
  std::vector<char> buffer(kPiece);
  return best_of(kRepeats, [&] {
    std::FILE* file = std::fopen(path.c_str(), "rb");
    while (std::fread(buffer.data(), 1, buffer.size(), file) == buffer.size()) {
    }
    std::fclose(file);
  });
}

void bench_sequential(const std::string& path, const std::string& name, DataIo io, int repeats,
                      const std::string& target) {
  SampleReader reader(path, 65'536, io, Pack::concat);
  const double bytes = 2.0 * 65'536 * static_cast<double>(reader.samples());
  const double copying = fread_seconds(path);
  const double seconds = best_of(repeats, [&] {
    for (int64_t sample = 0; sample < reader.samples(); ++sample) reader.read(sample);
  });
  const double file_bytes = static_cast<double>(std::filesystem::file_size(path));
  print(fmt::format("sequential reads of 65,537 tokens, {}", name), fmt::format("{:.0f} MB/s", bytes / seconds / 1e6),
        target, bytes / seconds / (file_bytes / copying));
}

void bench_corpus(const std::string& folder) {
  const std::string plain = write_corpus_of_bytes(folder, false), archive = write_corpus_of_bytes(folder, true);
  bench_random(plain, "map, concat", DataIo::map, Pack::concat);
  bench_random(plain, "map, documents", DataIo::map, Pack::documents);
  bench_random(plain, "pread, concat", DataIo::pread, Pack::concat);
  bench_sequential(plain, "map", DataIo::map, kRepeats, "6000 MB/s");
  bench_sequential(plain, "pread", DataIo::pread, kRepeats, "6000 MB/s");
  bench_sequential(archive, "deflate", DataIo::automatic, 1, "60 MB/s");
}

constexpr int64_t kSeriesRows = 400'000, kChannels = 64, kLookback = 336, kHorizon = 96;

std::string write_table(const std::string& folder) {
  SeriesTable table;
  table.frequency = {.step_ns = 3'600'000'000'000, .months = 0};
  for (int64_t c = 0; c < kChannels; ++c) table.channels.push_back({.name = fmt::format("c{}", c), .unit = ""});
  Series series;
  series.id = "0";
  uint64_t state = 1;
  for (int64_t t = 0; t < kSeriesRows; ++t) {
    series.time.push_back(t * table.frequency.step_ns);
    for (int64_t c = 0; c < kChannels; ++c) {
      state = state * 6364136223846793005U + 1442695040888963407U;
      series.values.push_back(static_cast<float>(state >> 40) * 0x1p-24F);
    }
  }
  table.series.push_back(std::move(series));
  table.splits = {{"train", {{0, 0, kSeriesRows}}}};
  write_series(folder + "/series.h5", {}, table);
  return folder + "/series.h5";
}

// A window as batches have it must be the rows of the file, scaled.
void check_window(SeriesWindows& windows, int64_t sample, const MicroBatch& batch) {
  windows.read(sample, 0, batch);
  const int64_t begin = windows.window(sample).first_target - kLookback;
  const float* rows = windows.files().values(0, begin, kLookback + kHorizon);
  for (int64_t c = 0; c < kChannels; ++c) {
    const ChannelScale& scale = windows.options().scale[static_cast<size_t>(c)];
    for (int64_t t = 0; t < kLookback + kHorizon; ++t) {
      const double z = (static_cast<double>(rows[t * kChannels + c]) - scale.mean) * (1.0 / scale.scale);
      const float found = t < kLookback ? batch.windows.past.data<float>()[c * kLookback + t]
                                        : batch.windows.future.data<float>()[c * kHorizon + t - kLookback];
      if (found != static_cast<float>(z)) fail(ErrorKind::internal, "window {}: channel {} row {}", sample, c, t);
    }
  }
}

void bench_windows(const std::string& path, const std::string& name, DataIo io) {
  const SeriesDescriptor file = describe_series(path);
  const auto files = std::make_shared<SeriesFiles>(std::vector{file}, SeriesAccess{.io = io});
  SeriesWindows windows(files, {.lookback = kLookback, .horizon = kHorizon, .scale = pooled_scale({file})});
  const MicroBatch batch = windows.make_batch(1);
  constexpr size_t kReads = 10'000;
  std::vector<int64_t> order = shuffled_samples(windows.samples());
  order.resize(kReads);
  for (size_t i = 0; i < 10; ++i) check_window(windows, order[i], batch);
  const std::string bytes = read_text(path);
  std::vector<char> buffer(4 * kChannels * (kLookback + kHorizon));
  volatile char sink = 0;
  const double copying = best_of(kRepeats, [&] {
    for (const int64_t sample : order) {
      const int64_t row = windows.window(sample).first_target - kLookback;
      std::memcpy(buffer.data(), bytes.data() + file.series[0].values.offset + 4 * kChannels * row, buffer.size());
      sink = buffer[static_cast<size_t>(sample) % buffer.size()];
    }
  });
  const double seconds = best_of(kRepeats, [&] {
    for (const int64_t sample : order) windows.read(sample, 0, batch);
  });
  print(fmt::format("windows of {} x {} channels, {}", kLookback + kHorizon, kChannels, name),
        fmt::format("{:.1f} k/s", static_cast<double>(kReads) / seconds / 1e3), "68 k/s", copying / seconds);
}

void bench_series(const std::string& folder) {
  const std::string path = write_table(folder);
  bench_windows(path, "map", DataIo::map);
  bench_windows(path, "pread", DataIo::pread);
}

void bench_texts() {
  const char* data = std::getenv("FARSIGHT_DATA");
  const std::string folder = data != nullptr && *data != '\0' ? data : FARSIGHT_DEFAULT_DATA;
  const std::vector<std::string> texts = real_texts(folder);
  if (texts.empty()) {
    fmt::print("tokenising is left out: no texts in {} (FARSIGHT_DATA)\n", folder);
    return;
  }
  bench_tokenizer("byte", *make_tokenizer("byte"), texts, "200 MB/s");
  bench_tokenizer("gpt2", *make_tokenizer("gpt2:" + folder + "/tokenizer"), texts, "10 MB/s");
}

int run(const std::string& scratch, const std::string& only) {
  if (!only.empty() && only != "tokenise" && only != "corpus" && only != "series") {
    fail(ErrorKind::usage, "--only {}: use tokenise, corpus or series", only);
  }
  if (only.empty() || only == "tokenise") bench_texts();
  std::string own = scratch + "/farsight-data-bench-XXXXXX";
  if (mkdtemp(own.data()) == nullptr) fail(ErrorKind::io, "{}: cannot create a folder", scratch);
  if (only.empty() || only == "corpus") bench_corpus(own);
  if (only.empty() || only == "series") bench_series(own);
  std::filesystem::remove_all(own);
  return 0;
}

}  // namespace
}  // namespace farsight

int main(int argc, char** argv) {
  std::string scratch = std::filesystem::temp_directory_path(), only;
  for (int i = 1; i + 1 < argc; i += 2) {
    if (std::string(argv[i]) == "--scratch") scratch = argv[i + 1];
    if (std::string(argv[i]) == "--only") only = argv[i + 1];
  }
  try {
    return farsight::run(scratch, only);
  } catch (const farsight::Error& error) {
    fmt::print(stderr, "error: {}\n", error.what());
    return farsight::exit_code(error.kind());
  }
}
