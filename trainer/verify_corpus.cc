// SPDX-License-Identifier: Apache-2.0
#include "trainer/verify_corpus.h"

#include <stdlib.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <vector>

#include "data/corpus_writer.h"
#include "data/hdf5.h"
#include "data/token_spool.h"
#include "kernels/error.h"
#include "kernels/random.h"
#include "trainer/version.h"

namespace farsight {
namespace {

std::string temporary_folder() {
  std::error_code code;
  const auto base = std::filesystem::temp_directory_path(code);
  std::string name = (base / "farsight-verify-XXXXXX").string();
  if (code || mkdtemp(name.data()) == nullptr) {
    fail(ErrorKind::io, "cannot make a folder for random tokens below '{}': {}; set TMPDIR to one that may be written",
         base.string(), code ? code.message() : std::strerror(errno));
  }
  return name;
}

uint64_t stream(const char* what) { return init_key(0, what); }

// A skewed distribution gives the embedding large and small gradients.
std::vector<uint32_t> random_tokens(const RandomCorpus::Shape& shape) {
  const uint64_t key = stream("random corpus, tokens");
  std::vector<uint32_t> tokens;
  for (int64_t i = 0; i < shape.tokens; ++i) {
    const double u = uniform_variate(key, static_cast<uint64_t>(i));
    tokens.push_back(static_cast<uint32_t>(u * u * static_cast<double>(shape.vocab)));
  }
  return tokens;
}

void spool_documents(const RandomCorpus::Shape& shape, TokenSpool& spool) {
  const auto tokens = random_tokens(shape);
  const uint64_t key = stream("random corpus, documents");
  uint64_t number = 0;
  for (int64_t begin = 0; begin < shape.tokens;) {
    const double length = -std::log1p(-uniform_variate(key, number++)) * static_cast<double>(shape.document);
    const int64_t count = std::min(shape.tokens - begin, 1 + static_cast<int64_t>(length));
    spool.append(tokens.data() + begin, count);
    spool.end_document(0, count, 0);
    begin += count;
  }
}

// What the writer of text corpora has no use for.
void add_loss_mask(const std::string& file, int64_t tokens) {
  const uint64_t key = stream("random corpus, targets");
  std::vector<uint8_t> mask;
  for (int64_t i = 0; i < tokens; ++i) {
    mask.push_back(uniform_variate(key, static_cast<uint64_t>(i)) < 0.125 ? 0 : 1);
  }
  const h5::Lock lock;
  const h5::Context context{file, ErrorKind::io};
  const h5::Handle root(context.id(H5Fopen(file.c_str(), H5F_ACC_RDWR, H5P_DEFAULT), "/", "cannot open"), H5Fclose);
  const h5::Handle group = h5::open_group(context, root.get(), "train");
  const auto extent = static_cast<hsize_t>(tokens);
  const h5::Handle space(H5Screate_simple(1, &extent, nullptr), H5Sclose);
  const h5::Handle set(
      context.id(H5Dcreate2(group.get(), "loss_mask", H5T_STD_U8LE, space.get(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT),
                 "loss_mask", "cannot create dataset"),
      H5Dclose);
  context.ok(H5Dwrite(set.get(), H5T_NATIVE_UINT8, H5S_ALL, H5S_ALL, H5P_DEFAULT, mask.data()), "loss_mask",
             "cannot write");
}

}  // namespace

RandomCorpus::RandomCorpus(const Shape& shape) : folder_(temporary_folder()) {
  try {
    const std::string file = folder_ + "/random.h5";
    CorpusHeader header;
    header.tokenizer.type = "byte";
    header.tokenizer.vocab_size = shape.vocab;
    header.tokenizer.fingerprint = "0000000000000000";
    header.tool = std::string("farsight ") + version();
    header.source_names = {"random tokens"};
    header.splits = {"train"};
    header.reproducible = true;
    TokenSpool spool(folder_, 4, 1);
    spool_documents(shape, spool);
    write_corpus(file, header, spool);
    add_loss_mask(file, shape.tokens);
    descriptor_ = describe_corpus(file);
  } catch (...) {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
    throw;
  }
}

RandomCorpus::~RandomCorpus() {
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

}  // namespace farsight
