// SPDX-License-Identifier: Apache-2.0
#include "data/corpus.h"

#include <algorithm>
#include <numeric>

#include "data/array_reader.h"
#include "data/corpus_check.h"
#include "data/file.h"
#include "kernels/error.h"

namespace farsight {

namespace {

constexpr int64_t kSmallRange = 64;  // below this many positions a range one read of the whole row is cheaper

// One split of one open file.
class CorpusFile {
 public:
  CorpusFile(CorpusDescriptor corpus, const CorpusOptions& options)
      : corpus_(std::move(corpus)), options_(options), file_(open_checked(corpus_)) {
    const SplitDescriptor* split = corpus_.find(options.split);
    if (split == nullptr) {
      fail(ErrorKind::data, "{}: has no split '{}' (has: {})", corpus_.file, options.split, split_names());
    }
    check_trust(*split);
    check_head(split->tokens);
    tokens_ = std::make_unique<IntegerArray>(file_, split->tokens, options.io);
    if (split->doc_offsets) open_offsets(*split);
    if (split->loss_mask) mask_ = std::make_unique<IntegerArray>(file_, *split->loss_mask, options.io);
    bytes_of_text_ = split->bytes_of_text;
  }

  const CorpusDescriptor& descriptor() const { return corpus_; }
  int64_t tokens() const { return tokens_->size(); }
  int64_t bytes_of_text() const { return bytes_of_text_; }
  bool has_documents() const { return offsets_ != nullptr; }
  uint64_t content_hash() const { return tokens_->descriptor().content_xxh3.value_or(0); }

  int64_t samples() const {
    const int64_t labels = std::max<int64_t>(0, tokens() - 1), t = options_.sequence;
    return options_.evaluation ? (labels + t - 1) / t : labels / t;
  }

  int64_t read(int64_t sample, std::span<const PositionRange> ranges, const SampleSlice& slice) {
    check_unchanged();
    const int64_t base = sample * options_.sequence;
    const int64_t length = std::min(options_.sequence, tokens() - 1 - base);
    find_starts(base, length);
    if (static_cast<int64_t>(ranges.size()) * kSmallRange > options_.sequence && ranges.size() > 1) {
      read_row(base, length);
    } else {
      row_.clear();
    }
    size_t at = 0;
    int64_t targets = 0;
    for (const PositionRange& range : ranges) {
      const auto size = static_cast<size_t>(range.size());
      targets += read_range(base, length, range, slice.inputs.subspan(at, size), slice.labels.subspan(at, size));
      at += size;
    }
    if (!slice.documents.empty()) fill_documents(slice.documents);
    return targets;
  }

  void prefetch(int64_t sample, std::span<const PositionRange> ranges) {
    const int64_t base = sample * options_.sequence;
    for (const PositionRange& range : ranges) {
      const int64_t begin = std::min(base + range.begin, tokens());
      const int64_t end = std::min(base + range.end + 1, tokens());
      if (end > begin) tokens_->will_need(begin, end - begin);
    }
  }

 private:
  static File open_checked(const CorpusDescriptor& corpus) {
    check_descriptor(corpus);
    File file = File::open_read(corpus.file);
    if (file.size() != corpus.file_bytes) {
      fail(ErrorKind::data, "{}: not the same file here: {} bytes, {} expected (uuid {})", corpus.file,
           with_commas(file.size()), with_commas(corpus.file_bytes), corpus.uuid);
    }
    return file;
  }

  std::string split_names() const {
    std::string text;
    for (const SplitDescriptor& split : corpus_.splits)
      text += fmt::format("{}{}", text.empty() ? "" : ", ", split.name);
    return text;
  }

  void check_trust(const SplitDescriptor& split) const {
    const bool library = split.tokens.storage == Storage::library ||
                         (split.doc_offsets && split.doc_offsets->storage == Storage::library) ||
                         (split.loss_mask && split.loss_mask->storage == Storage::library);
    if (!library || corpus_.sidecar || options_.trust) return;
    fail(ErrorKind::data,
         "{}: split '{}' can only be read through libhdf5 (compressed, compact or foreign byte order), and no matching "
         "{}.sum vouches for it; write the corpus again, or trust the file explicitly",
         corpus_.file, options_.split, corpus_.file);
  }

  void check_head(const ArrayDescriptor& array) const {
    if (array.head.empty() || array.storage == Storage::library) return;
    const int64_t offset = array.storage == Storage::contiguous ? array.offset : array.chunk_offsets.at(0);
    std::string found(array.head.size(), '\0');
    file_.read_at(offset, found.data(), found.size());
    if (found != array.head) {
      fail(ErrorKind::data, "{}: not the same file here: '{}' begins with other bytes (uuid {})", corpus_.file,
           array.path, corpus_.uuid);
    }
  }

  void open_offsets(const SplitDescriptor& split) {
    offsets_ = std::make_unique<IntegerArray>(file_, *split.doc_offsets, options_.io);
    const int64_t first = offsets_->at(0), last = offsets_->at(offsets_->size() - 1);
    if (first == 0 && last == split.tokens.size) return;
    fail(ErrorKind::data, "{}: '{}' goes from {} to {}, 0 to {} is needed", corpus_.file, split.doc_offsets->path,
         first, last, split.tokens.size);
  }

  // A mapped file that has shrunk is SIGBUS when touched; asking for the size costs 0.2 us a sample.
  void check_unchanged() const {
    const int64_t bytes = file_.size();
    if (bytes == corpus_.file_bytes) return;
    fail(ErrorKind::data, "{}: truncated or changed while in use: {} bytes, {} expected", corpus_.file,
         with_commas(bytes), with_commas(corpus_.file_bytes));
  }

  // Fills starts_ with the positions in (0, length] of the row where a document begins.
  void find_starts(int64_t base, int64_t length) {
    starts_.clear();
    if (offsets_ == nullptr || options_.pack != Pack::documents) return;
    int64_t low = 0, high = offsets_->size() - 1;  // the first offset > base is in (low, high]
    while (high - low > 1) {
      const int64_t middle = low + (high - low) / 2;
      (offsets_->at(middle) > base ? high : low) = middle;
    }
    int64_t previous = base;
    for (int64_t i = high; i < offsets_->size() - 1; ++i) {
      const int64_t start = offsets_->at(i);
      if (start <= previous) {
        fail(ErrorKind::data, "{}: '{}' does not increase at index {}: {} after {}", corpus_.file,
             offsets_->descriptor().path, with_commas(i), start, previous);
      }
      if (start > base + length) return;
      starts_.push_back(start - base);
      previous = start;
    }
  }

  void read_row(int64_t base, int64_t length) {
    row_.resize(static_cast<size_t>(length + 1));
    tokens_->read_tokens(base, row_, corpus_.tokenizer.vocab_size);
  }

  // Positions [range.begin, end) have a label in the file; the rest of the range is padding. Returns the targets.
  int64_t read_range(int64_t base, int64_t length, const PositionRange& range, std::span<int32_t> inputs,
                     std::span<int32_t> labels) {
    const int64_t end = std::clamp(length, range.begin, range.end);
    const auto count = static_cast<size_t>(end - range.begin);
    int64_t targets = 0;
    if (count > 0) {
      load_range(base, range.begin, inputs.first(count), labels.first(count));
      targets = end - range.begin - mask_borders(range.begin, end, labels);
      if (mask_ != nullptr) targets = mask_labels(base + range.begin + 1, labels.first(count));
    }
    std::ranges::fill(inputs.subspan(count), padding_id());
    std::ranges::fill(labels.subspan(count), -1);
    return targets;
  }

  void load_range(int64_t base, int64_t begin, std::span<int32_t> inputs, std::span<int32_t> labels) {
    if (row_.empty()) {
      tokens_->read_pairs(base + begin, inputs, labels, corpus_.tokenizer.vocab_size);
    } else {
      std::copy_n(row_.begin() + begin, inputs.size(), inputs.begin());
      std::copy_n(row_.begin() + begin + 1, labels.size(), labels.begin());
    }
  }

  // The label at position t is token t + 1: no document predicts the beginning of the next one.
  // Returns how many labels it took away.
  int64_t mask_borders(int64_t begin, int64_t end, std::span<int32_t> labels) const {
    const auto first = std::upper_bound(starts_.begin(), starts_.end(), begin);
    auto at = first;
    for (; at != starts_.end() && *at <= end; ++at) labels[static_cast<size_t>(*at - 1 - begin)] = -1;
    return at - first;
  }

  // Returns how many labels are left.
  int64_t mask_labels(int64_t first, std::span<int32_t> labels) {
    flags_.resize(labels.size());
    mask_->read(first, flags_);
    for (size_t i = 0; i < labels.size(); ++i) {
      if (flags_[i] == 0) labels[i] = -1;
    }
    return std::ranges::count_if(labels, [](int32_t label) { return label >= 0; });
  }

  void fill_documents(std::span<int32_t> documents) const {
    int32_t document = 0;
    auto next = starts_.begin();
    for (size_t t = 0; t < documents.size(); ++t) {
      if (next != starts_.end() && static_cast<int64_t>(t) == *next) {
        ++document;
        ++next;
      }
      documents[t] = document;
    }
  }

  int32_t padding_id() const {
    const TokenizerInfo& info = corpus_.tokenizer;
    return static_cast<int32_t>(info.pad_id >= 0 ? info.pad_id : std::max<int64_t>(info.eos_id, 0));
  }

  CorpusDescriptor corpus_;
  const CorpusOptions& options_;
  File file_;
  std::unique_ptr<IntegerArray> tokens_, offsets_, mask_;
  int64_t bytes_of_text_ = -1;
  std::vector<int64_t> starts_, flags_;
  std::vector<int32_t> row_;
};

}  // namespace

struct Corpus::State {
  CorpusOptions options;
  std::vector<std::unique_ptr<CorpusFile>> files;
  std::vector<int64_t> first_sample = {0};  // [files + 1]

  size_t file_of(int64_t sample) const {
    const auto next = std::upper_bound(first_sample.begin(), first_sample.end(), sample);
    return static_cast<size_t>(next - first_sample.begin()) - 1;
  }
  int64_t samples() const { return first_sample.back(); }

  void add(CorpusDescriptor descriptor) {
    files.push_back(std::make_unique<CorpusFile>(std::move(descriptor), options));
    const TokenizerInfo &first = files.front()->descriptor().tokenizer, &last = files.back()->descriptor().tokenizer;
    if (first.fingerprint != last.fingerprint || first.vocab_size != last.vocab_size) {
      fail(ErrorKind::data, "{}: tokeniser {} of {} ids, but {} has {} of {} ids; prepare both with the same tokeniser",
           files.back()->descriptor().file, last.fingerprint, last.vocab_size, files.front()->descriptor().file,
           first.fingerprint, first.vocab_size);
    }
    first_sample.push_back(samples() + files.back()->samples());
  }

  void check_not_empty() const {
    if (samples() > 0) return;
    int64_t tokens = 0;
    for (const auto& file : files) tokens = std::max(tokens, file->tokens());
    fail(ErrorKind::data,
         "{}: split '{}' holds {} tokens, a sample of sequence {} needs {}; shorten the sequence or add "
         "data",
         files.front()->descriptor().file, options.split, tokens, options.sequence,
         options.evaluation ? 2 : options.sequence + 1);
  }
};

Corpus::Corpus(std::vector<CorpusDescriptor> files, CorpusOptions options) : state_(std::make_unique<State>()) {
  state_->options = std::move(options);
  if (state_->options.sequence < 1) fail(ErrorKind::config, "data.sequence = {}; at least 1", state_->options.sequence);
  if (files.empty()) fail(ErrorKind::config, "no data file is given");
  try {
    for (CorpusDescriptor& file : files) state_->add(std::move(file));
    state_->check_not_empty();
  } catch (const Error& error) {
    throw Error(error.kind(), state_->options.where + error.what());
  }
}

Corpus::~Corpus() = default;

int64_t Corpus::samples() const { return state_->samples(); }

int64_t Corpus::tokens() const {
  return std::accumulate(state_->files.begin(), state_->files.end(), int64_t{0},
                         [](int64_t sum, const auto& file) { return sum + file->tokens(); });
}

int64_t Corpus::bytes_of_text() const {
  int64_t total = 0;
  for (const auto& file : state_->files) {
    if (file->bytes_of_text() < 0) return -1;
    total += file->bytes_of_text();
  }
  return total;
}

int64_t Corpus::sequence() const { return state_->options.sequence; }
Pack Corpus::pack() const { return state_->options.pack; }

bool Corpus::has_documents() const {
  return std::all_of(state_->files.begin(), state_->files.end(),
                     [](const auto& file) { return file->has_documents(); });
}

const TokenizerInfo& Corpus::tokenizer() const { return state_->files.front()->descriptor().tokenizer; }

std::string Corpus::identity() const {
  std::string text;
  for (const auto& file : state_->files) {
    text += fmt::format("{} {} {:016x}\n", file->descriptor().uuid, file->tokens(), file->content_hash());
  }
  return text + fmt::format("{} {} {}\n", samples(), sequence(), pack() == Pack::concat ? "concat" : "documents");
}

int64_t Corpus::read(int64_t sample, std::span<const PositionRange> ranges, const SampleSlice& slice) {
  if (sample < 0 || sample >= samples()) fail(ErrorKind::internal, "sample {} of {}", sample, samples());
  const auto needed = static_cast<size_t>(total_size(ranges));
  if (slice.inputs.size() != needed || slice.labels.size() != needed ||
      (!slice.documents.empty() && static_cast<int64_t>(slice.documents.size()) != sequence())) {
    fail(ErrorKind::internal, "sample slice of {} inputs, {} labels, {} documents for {} positions of {}",
         slice.inputs.size(), slice.labels.size(), slice.documents.size(), needed, sequence());
  }
  const size_t file = state_->file_of(sample);
  try {
    return state_->files[file]->read(sample - state_->first_sample[file], ranges, slice);
  } catch (const Error& error) {
    fail(error.kind(), "{}{} (sample {})", state_->options.where, error.what(), with_commas(sample));
  }
}

void Corpus::prefetch(int64_t sample, std::span<const PositionRange> ranges) {
  const size_t file = state_->file_of(sample);
  state_->files[file]->prefetch(sample - state_->first_sample[file], ranges);
}

}  // namespace farsight
