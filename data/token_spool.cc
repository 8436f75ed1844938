// SPDX-License-Identifier: Apache-2.0
#include "data/token_spool.h"

#include <algorithm>

#include "kernels/error.h"

namespace farsight {

namespace {

constexpr size_t kBufferBytes = 4 << 20;
constexpr size_t kRecordBatch = 1 << 16;

}  // namespace

TokenSpool::TokenSpool(const std::string& folder, int width, int splits)
    : tokens_(File::create_temporary(folder)),
      records_(File::create_temporary(folder)),
      width_(width),
      totals_(static_cast<size_t>(splits)) {}

void TokenSpool::append(const void* tokens, int64_t count) {
  pending_.append(static_cast<const char*>(tokens), static_cast<size_t>(count * width_));
  written_ += count;
  if (pending_.size() >= kBufferBytes) flush();
}

void TokenSpool::end_document(int split, int64_t bytes, int source) {
  const SpoolDocument document{.tokens = written_ - ended_, .bytes = bytes, .source = source, .split = split};
  if (document.tokens == 0) fail(ErrorKind::internal, "empty document in the token spool");
  SpoolTotals& totals = totals_.at(static_cast<size_t>(split));
  totals.tokens += document.tokens;
  totals.bytes += bytes;
  ++totals.documents;
  ++documents_;
  ended_ = written_;
  pending_records_.push_back(document);
  if (pending_records_.size() >= kRecordBatch) flush_records();
}

void TokenSpool::flush() {
  tokens_.write(pending_.data(), pending_.size());
  pending_.clear();
}

void TokenSpool::flush_records() {
  records_.write(pending_records_.data(), pending_records_.size() * sizeof(SpoolDocument));
  pending_records_.clear();
}

void TokenSpool::each_document(int split, const std::function<void(const SpoolDocument&)>& visit) {
  flush_records();
  std::vector<SpoolDocument> batch;
  for (int64_t first = 0; first < documents_; first += static_cast<int64_t>(batch.size())) {
    batch.resize(std::min(kRecordBatch, static_cast<size_t>(documents_ - first)));
    records_.read_at(first * static_cast<int64_t>(sizeof(SpoolDocument)), batch.data(),
                     batch.size() * sizeof(SpoolDocument));
    for (const SpoolDocument& document : batch) {
      if (split < 0 || document.split == split) visit(document);
    }
  }
}

void TokenSpool::each_piece(int split, const std::function<void(const void*, int64_t)>& visit) {
  flush();
  int64_t at = 0, run = 0;  // tokens seen, length of the run of this split that ends at `at`
  each_document(/*split: all*/ -1, [&](const SpoolDocument& document) {
    if (document.split == split) {
      run += document.tokens;
    } else if (run > 0) {
      visit_range(at - run, run, visit);
      run = 0;
    }
    at += document.tokens;
  });
  if (run > 0) visit_range(at - run, run, visit);
}

void TokenSpool::visit_range(int64_t first, int64_t count, const std::function<void(const void*, int64_t)>& visit) {
  const auto capacity = static_cast<int64_t>(kBufferBytes) / width_;
  std::string buffer;
  while (count > 0) {
    const int64_t piece = std::min(count, capacity);
    buffer.resize(static_cast<size_t>(piece * width_));
    tokens_.read_at(first * width_, buffer.data(), buffer.size());
    visit(buffer.data(), piece);
    first += piece;
    count -= piece;
  }
}

}  // namespace farsight
