// SPDX-License-Identifier: Apache-2.0
#include "data/text_source.h"

#include <array>
#include <vector>

#include <zlib.h>
#include <zstd.h>

#include "data/file.h"
#include "data/sha256.h"
#include "kernels/error.h"

namespace farsight {

namespace {

constexpr size_t kInputBytes = 1 << 18;

class PlainSource : public TextSource {
 public:
  PlainSource(const std::string& path, bool hash) : file_(File::open_read(path)), hash_(hash) {}

  size_t read(char* out, size_t bytes) override {
    const size_t got = file_.read_some(out, bytes);
    consumed_ += static_cast<int64_t>(got);
    if (hash_) sha_.update(out, got);
    return got;
  }
  int64_t consumed() const override { return consumed_; }
  std::string sha256() override { return hash_ ? sha_.hex() : ""; }
  const std::string& path() const { return file_.path(); }

 private:
  File file_;
  bool hash_;
  Sha256 sha_;
  int64_t consumed_ = 0;
};

// Compressed streams: refill() keeps unread input in [at_, end_).
class CompressedSource : public TextSource {
 public:
  CompressedSource(const std::string& path, bool hash) : plain_(path, hash), input_(kInputBytes) {}
  int64_t consumed() const override { return plain_.consumed(); }
  std::string sha256() override { return plain_.sha256(); }

 protected:
  bool refill() {
    if (at_ < end_) return true;
    at_ = 0;
    end_ = plain_.read(input_.data(), input_.size());
    return end_ > 0;
  }
  [[noreturn]] void damaged(const char* format, const char* why) const {
    fail(ErrorKind::data, "{}: damaged {} data near byte {}: {}", plain_.path(), format, with_commas(plain_.consumed()),
         why);
  }

  PlainSource plain_;
  std::vector<char> input_;
  size_t at_ = 0, end_ = 0;
};

class GzipSource : public CompressedSource {
 public:
  GzipSource(const std::string& path, bool hash) : CompressedSource(path, hash) {
    constexpr int kGzipOnly = 16 + MAX_WBITS;
    if (inflateInit2(&stream_, kGzipOnly) != Z_OK) fail(ErrorKind::environment, "zlib cannot start");
  }
  ~GzipSource() override { inflateEnd(&stream_); }
  GzipSource(const GzipSource&) = delete;
  GzipSource& operator=(const GzipSource&) = delete;

  size_t read(char* out, size_t bytes) override {
    stream_.next_out = reinterpret_cast<Bytef*>(out);
    stream_.avail_out = static_cast<uInt>(bytes);
    while (stream_.avail_out == bytes) {
      if (!refill()) {
        if (!between_members_) damaged("gzip", "the stream ends early");
        return 0;
      }
      step();
    }
    return bytes - stream_.avail_out;
  }

 private:
  void step() {
    between_members_ = false;
    stream_.next_in = reinterpret_cast<Bytef*>(input_.data() + at_);
    stream_.avail_in = static_cast<uInt>(end_ - at_);
    const int result = inflate(&stream_, Z_NO_FLUSH);
    at_ = end_ - stream_.avail_in;
    if (result == Z_STREAM_END) {  // another member may follow
      inflateReset(&stream_);
      between_members_ = true;
    } else if (result != Z_OK && result != Z_BUF_ERROR) {
      damaged("gzip", stream_.msg != nullptr ? stream_.msg : "bad data");
    }
  }

  z_stream stream_{};
  bool between_members_ = false;
};

class ZstdSource : public CompressedSource {
 public:
  ZstdSource(const std::string& path, bool hash) : CompressedSource(path, hash), stream_(ZSTD_createDStream()) {}

  size_t read(char* out, size_t bytes) override {
    ZSTD_outBuffer output{.dst = out, .size = bytes, .pos = 0};
    while (output.pos == 0) {
      const bool more = refill();
      if (!more && left_ == 0) return 0;
      ZSTD_inBuffer input{.src = input_.data() + at_, .size = end_ - at_, .pos = 0};
      left_ = ZSTD_decompressStream(stream_.get(), &output, &input);
      if (ZSTD_isError(left_) != 0) damaged("zstd", ZSTD_getErrorName(left_));
      at_ += input.pos;
      if (!more && output.pos == 0) damaged("zstd", "the stream ends early");
    }
    return output.pos;
  }

 private:
  struct Free {
    void operator()(ZSTD_DStream* stream) const { ZSTD_freeDStream(stream); }
  };
  std::unique_ptr<ZSTD_DStream, Free> stream_;
  size_t left_ = 1;  // 0 at the end of a frame
};

}  // namespace

std::unique_ptr<TextSource> open_text_source(const std::string& path, bool hash) {
  if (path.ends_with(".gz")) return std::make_unique<GzipSource>(path, hash);
  if (path.ends_with(".zst")) return std::make_unique<ZstdSource>(path, hash);
  return std::make_unique<PlainSource>(path, hash);
}

}  // namespace farsight
