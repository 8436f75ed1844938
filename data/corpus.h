// SPDX-License-Identifier: Apache-2.0
// Token corpora: HDF5 files of kind "tokens" (corpus_format.md), opened for random reading of samples.
//
// Opening has two steps, because HDF5 metadata are untrusted input and hundreds of ranks must not parse them at once:
//   1. one process validates each file: probe_corpus(path), before MPI_Init, gives a CorpusDescriptor;
//   2. the descriptors are broadcast as bytes (to_bytes, from_bytes), and every rank opens Corpus(descriptors,
//   options),
//      which touches only the byte ranges of the arrays.
//
//   std::vector<CorpusDescriptor> files = {probe_corpus("corpus.h5")};
//   Corpus corpus(files, {.split = "train", .sequence = 1024, .pack = Pack::documents});
//   corpus.read(sample, ranges, slice);
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/data_file.h"

namespace farsight {

// What the file says about the tokeniser that made it; ids are -1 where there is none.
struct TokenizerInfo {
  std::string type;  // "byte" | "bpe"
  int64_t vocab_size = 0;
  int64_t bos_id = -1, eos_id = -1, pad_id = -1, unk_id = -1;
  std::string pretokenizer;  // "" | "gpt2, Unicode 15.0"
  std::string fingerprint;   // 16 hex digits
  std::string json;          // tokenizer.json; empty for bytes. make_tokenizer(info) in tokenizer.h needs it
};

struct SplitDescriptor {
  std::string name;  // "train" | "valid" | "test"
  ArrayDescriptor tokens;
  std::optional<ArrayDescriptor> doc_offsets, loss_mask;
  int64_t bytes_of_text = -1;  // -1: the file does not say
};

struct CorpusDescriptor : DataFileInfo {
  TokenizerInfo tokenizer;
  std::vector<SplitDescriptor> splits;

  // nullptr when there is no such split.
  const SplitDescriptor* find(std::string_view split) const;
  // Flat form for a broadcast. from_bytes checks every length; throws Error{internal} for bytes that to_bytes did not
  // write.
  std::string to_bytes() const;
  static CorpusDescriptor from_bytes(std::string_view bytes);
};

// Validates the metadata of `path` in a forked child and returns its descriptor. The parent checks every number again.
// Call it before MPI_Init and before threads are started (a child of fork has only the calling thread).
// Throws Error{data}: not HDF5, truncated, Git LFS pointer, other kind, newer version, wrong types, damaged or hostile
// (child crashed or hit a limit); Error{io} when the file cannot be read.
CorpusDescriptor probe_corpus(const std::string& path, const ProbeLimits& limits = {});

// The same in this process, for files that this process has just written or that a matching sidecar vouches for.
CorpusDescriptor describe_corpus(const std::string& path);

// concat: documents follow each other. documents: attention and targets stay inside a document.
enum class Pack : uint8_t { concat, documents };

struct CorpusOptions {
  std::string split = "train";
  int64_t sequence = 0;  // T, positions of a sample
  Pack pack = Pack::documents;
  bool evaluation = false;  // every token but the first of a file is a label exactly once; the last sample is padded
  DataIo io = DataIo::automatic;
  bool trust = false;      // read arrays through libhdf5 although no sidecar vouches for the file
  std::string where = {};  // prefix of messages, e.g. "rank 3 (gpu07): "
};

// Positions [begin, end) of a sample, 0 <= begin <= end <= T.
struct PositionRange {
  int64_t begin = 0, end = 0;
  int64_t size() const { return end - begin; }
};
int64_t total_size(std::span<const PositionRange> ranges);

// Buffers of one sample, owned by the caller. n = total_size(ranges).
struct SampleSlice {
  std::span<int32_t> inputs;     // [n] token ids
  std::span<int32_t> labels;     // [n] the next token; -1 = no target
  std::span<int32_t> documents;  // [T] or empty: document number within the row (0, 1, ...), of ALL positions
};

// One split of one or several files, cut into samples of T positions: sample u of a file holds tokens [uT, uT + T], the
// first T as inputs and the same shifted by one as labels. Samples never cross files.
class Corpus {
 public:
  // Opens the files. Throws Error{data}: no such split, tokenisers differ between the files, fewer tokens than
  // a sample needs, "not the same file" (size or first bytes differ from the descriptor).
  Corpus(std::vector<CorpusDescriptor> files, CorpusOptions options);
  ~Corpus();
  Corpus(const Corpus&) = delete;
  Corpus& operator=(const Corpus&) = delete;

  int64_t samples() const;        // floor((N-1)/T) summed over the files; evaluation: ceil((N-1)/T)
  int64_t tokens() const;         // N summed over the files
  int64_t bytes_of_text() const;  // of the split; -1 when a file does not say
  int64_t sequence() const;
  Pack pack() const;
  bool has_documents() const;  // every file has doc_offsets; without them a file is one document
  const TokenizerInfo& tokenizer() const;
  // What a checkpoint keeps to notice another data set: one line per file "uuid tokens content_xxh3", then
  // "samples sequence pack". Equal text = same data in the same order (given the seed).
  std::string identity() const;

  // Fills `slice` with the positions `ranges` of sample u and returns the number of labels that are targets. Reads only
  // these tokens, the label behind each range, and the document borders of the row.
  // Throws Error{data}: token id >= vocab_size (array, id, index), file changed; Error{io}: read error. The message
  // names file, array, sample and offset.
  // Thread safety: one caller at a time per Corpus; different Corpus objects may be used by different threads.
  int64_t read(int64_t sample, std::span<const PositionRange> ranges, const SampleSlice& slice);

  // Asks the operating system for the bytes of a sample that will be read soon. Never fails.
  void prefetch(int64_t sample, std::span<const PositionRange> ranges);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace farsight
