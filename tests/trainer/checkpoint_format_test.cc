// SPDX-License-Identifier: Apache-2.0
// Files that are sealed correctly but lie: every checksum fits, the content does not. Nothing but Error{data} may come
// of them.
#include <functional>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "kernels/error.h"
#include "tests/faults/checkpoint_sample.h"
#include "tests/faults/memory_file_system.h"
#include "trainer/checkpoint/checkpoint_directory.h"
#include "trainer/checkpoint/crc32c.h"
#include "trainer/checkpoint/load.h"
#include "trainer/checkpoint/shard_file.h"

namespace farsight {
namespace {

std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// A shard around any header, with `data` as its data part and right checksums.
std::string forge(const std::string& header, const std::string& data, const std::vector<uint32_t>& table) {
  std::string file = text_of(encode_shard_prefix(static_cast<int64_t>(header.size()))) + header;
  ShardFooter footer;
  footer.crc_header = crc32c(file);
  file.resize(static_cast<size_t>(align_up(static_cast<int64_t>(file.size()), kShardDataAlign)), '\0');
  file += data;
  footer.table_offset = static_cast<int64_t>(file.size());
  footer.table_count = static_cast<int64_t>(table.size());
  const std::string table_text = text_of(std::as_bytes(std::span(table)));
  footer.crc_table = crc32c(table_text);
  file += table_text;
  footer.file_bytes = static_cast<int64_t>(file.size()) + kShardFooterBytes;
  return file + text_of(encode_shard_footer(footer));
}

std::string tensor(const std::string& name, const std::string& global, const std::string& offset,
                   const std::string& shape, const std::string& begin, const std::string& bytes,
                   const std::string& chunk0, const std::string& dtype = "u8") {
  return fmt::format(
      R"({{"name":"{}","dtype":"{}","global":{},"offset":{},"shape":{},"begin":{},"bytes":{},"chunk0":{}}})", name,
      dtype, global, offset, shape, begin, bytes, chunk0);
}

std::string header(const std::string& tensors) {
  return R"({"format":1,"step":1,"writer":0,"writers":1,"chunk":65536,"tensors":[)" + tensors + "]}";
}

// Empty if the shard is accepted, else the message; anything but Error{data} fails the test.
std::string verdict(const std::string& file) {
  MemoryFileSystem files;
  OutputFile(files, "shard").write(file);
  try {
    const ShardReader reader(files, "shard", 0);
    return {};
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::data) << error.what();
    return error.what();
  }
}

const std::string kData(64, '\0');
const std::vector<uint32_t> kTable{crc32c(std::string_view(kData).substr(0, 10))};

TEST(Forgery, TheHonestFileIsAccepted) {
  EXPECT_EQ(verdict(forge(header(tensor("a", "[10]", "[0]", "[10]", "0", "10", "0")), kData, kTable)), "");
  EXPECT_EQ(verdict(forge(header(""), "", {})), "");
}

struct Lie {
  const char* name;
  std::string header;
  const char* message;
};

std::vector<Lie> lies() {
  const auto one = [](auto... fields) { return header(tensor(fields...)); };
  const std::string good = tensor("a", "[10]", "[0]", "[10]", "0", "10", "0");
  const std::string huge = "4611686018427387904";
  return {
      {"ShapeProductOverflows", one("a", "[" + huge + ",4]", "[0,0]", "[" + huge + ",4]", "0", "0", "0"), "overflows"},
      {"GlobalProductOverflows", one("a", "[" + huge + ",4]", "[0,0]", "[5,2]", "0", "10", "0"), "overflows"},
      {"OffsetPlusShapeOverflows", one("a", "[10]", "[9223372036854775807]", "[10]", "0", "10", "0"), "lies outside"},
      {"NegativeOffset", one("a", "[10]", "[-1]", "[10]", "0", "10", "0"), "not a list of counts"},
      {"NegativeBegin", one("a", "[10]", "[0]", "[10]", "-64", "10", "0"), "not a count"},
      {"HugeBegin", one("a", "[10]", "[0]", "[10]", "18446744073709551615", "10", "0"), "not a count"},
      {"FractionalExtent", one("a", "[10.5]", "[0]", "[10]", "0", "10", "0"), "not a list of counts"},
      {"SliceBeyondTensor", one("a", "[10]", "[1]", "[10]", "0", "10", "0"), "lies outside"},
      {"RanksDiffer", one("a", "[10,1]", "[0]", "[10]", "0", "10", "0"), "ranks"},
      {"RankTooHigh", one("a", "[1,1,1,1,1,1,1,1,10]", "[0,0,0,0,0,0,0,0,0]", "[1,1,1,1,1,1,1,1,10]", "0", "10", "0"),
       "ranks"},
      {"BytesNotTheShape", one("a", "[10]", "[0]", "[10]", "0", "11", "0"), "needs 10"},
      {"Hole", one("a", "[10]", "[0]", "[10]", "64", "10", "0"), "hole or overlap"},
      {"Overlap", header(good + "," + tensor("b", "[10]", "[0]", "[10]", "0", "10", "1")), "hole or overlap"},
      {"WrongChunk", one("a", "[10]", "[0]", "[10]", "0", "10", "1"), "hole or overlap"},
      {"Duplicate", header(good + "," + tensor("a", "[10]", "[0]", "[10]", "64", "10", "1")), "appears twice"},
      {"MoreDataThanTheFile", one("a", "[1000]", "[0]", "[1000]", "0", "1000", "0"), "its header needs"},
      {"UnknownType", one("a", "[10]", "[0]", "[10]", "0", "10", "0", "f9"), "unknown dtype"},
      {"EmptyName", one("", "[10]", "[0]", "[10]", "0", "10", "0"), "name"},
      {"ControlCharacter", one("a\\u0000b", "[10]", "[0]", "[10]", "0", "10", "0"), "name"},
      {"LongName", one(std::string(513, 'x'), "[10]", "[0]", "[10]", "0", "10", "0"), "name"},
      {"InvalidUtf8", one("\xff\xfe", "[10]", "[0]", "[10]", "0", "10", "0"), "UTF-8"},
      {"NotJson", "{", "parse error"},
      {"NotAnObject", "[1]", "not a JSON object"},
      {"TrailingText", header(good) + "x", "parse error"},
      {"DeepArrays", std::string(1'000'000, '['), "nested deeper"},
      {"DeepObjects", R"({"tensors":[{"name":{"a":{"a":{"a":1}}}}]})", "nested deeper"},
      {"ManyValues",
       [] {
         std::string list = "0";
         for (int i = 0; i < 300'000; ++i) list += ",0";
         return header(R"({"shape":[)" + list + "]}");
       }(),
       "too many values"},
      {"KeyTwice", R"({"format":1,"format":1})", "appears twice"},
      {"KeyMissing", R"({"format":1})", "is missing"},
      {"UnknownKey", R"({"format":1,"step":1,"writer":0,"writers":1,"chunk":65536,"tensors":[],"extra":1})",
       "unknown key 'extra'"},
      {"TensorsNotAList", R"({"format":1,"step":1,"writer":0,"writers":1,"chunk":65536,"tensors":3})", "not a list"},
      {"TinyChunk", R"({"format":1,"step":1,"writer":0,"writers":1,"chunk":1,"tensors":[]})", "chunk 1"},
      {"WriterBeyond", R"({"format":1,"step":1,"writer":1,"writers":1,"chunk":65536,"tensors":[]})", "writer 1 of 1"},
      {"OtherFormat", R"({"format":2,"step":1,"writer":0,"writers":1,"chunk":65536,"tensors":[]})",
       "shard format 2; this program reads format 1"},
  };
}

class Lies : public testing::TestWithParam<Lie> {};

TEST_P(Lies, AreRefused) {
  const std::string message = verdict(forge(GetParam().header, kData, kTable));
  EXPECT_NE(message, "");
  EXPECT_NE(message.find(GetParam().message), std::string::npos) << message.substr(0, 300);
}

INSTANTIATE_TEST_SUITE_P(Header, Lies, testing::ValuesIn(lies()),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(Forgery, AHeaderLongerThanTheFileIsRefusedBeforeItIsRead) {
  for (const int64_t length : {int64_t{1} << 62, int64_t{-1}, kMaxShardHeader + 1, int64_t{5000}}) {
    std::string file = forge(header(""), "", {});
    file.replace(0, kShardPrefixBytes, text_of(encode_shard_prefix(length)));
    EXPECT_NE(verdict(file).find("header of "), std::string::npos);
  }
}

// A file that every later version must still read: built here from the format document alone.
TEST(Golden, VersionOneIsReadByteByByte) {
  const std::string header_text = R"({"format":1,"step":7,"writer":0,"writers":1,"chunk":65536,"tensors":[)" +
                                  tensor("w", "[2,3]", "[0,0]", "[2,3]", "0", "6", "0") + "," +
                                  tensor("s", "[]", "[]", "[]", "64", "1", "1") + "]}";
  std::string data(128, '\0');
  data.replace(0, 6, "abcdef");
  data[64] = 'z';
  const std::string file = forge(header_text, data, {crc32c("abcdef"), crc32c("z")});
  MemoryFileSystem files;
  make_directories(files, "step-00000007");
  OutputFile(files, "step-00000007/shard-00000-of-00001.fss").write(file);
  const ShardFile identity = ShardReader(files, "step-00000007/shard-00000-of-00001.fss", 0).identity();
  const std::string body = fmt::format(
      R"({{"format":1,"uuid":"u","step":7,"tokens":70,"seed":1,"world":1,"mesh":{{"data":1}},"config":"","config_hash":"",)"
      R"("code_version":"","data":{{"epoch":0,"samples_consumed":3,"shuffle_seed":1,"datasets":[],"tokenizer_fingerprint":""}},)"
      R"("learning_rate":{{}},"loss_scale":{{}},"loss_statistics":{{}},"recent_losses":["nan"],"skipped_windows":[[1,2]],)"
      R"("wall_times":{{}},"files":[{{"name":"shard-00000-of-00001.fss","bytes":{},"crc_header":{},"crc_table":{}}}],)"
      R"("dtypes":{{"w":"u8","s":"u8"}},"shapes":{{"w":[2,3],"s":[]}},"index":{{"w":[{{"file":0,"begin":0,"offset":[0,0],)"
      R"("shape":[2,3]}}],"s":[{{"file":0,"begin":64,"offset":[],"shape":[]}}]}}}})",
      identity.bytes, identity.crc_header, identity.crc_table);
  OutputFile(files, "step-00000007/MANIFEST").write(body + "\n" + fmt::format("crc32c={:08x}\n", crc32c(body + "\n")));
  const Manifest manifest = verify_checkpoint(files, "step-00000007", VerifyLevel::full);
  std::string column(2, '?');
  TensorTarget target{{"w", DType::u8, {2, 3}, {0, 1}, {2, 1}}, column.data()};
  load_tensors(files, "step-00000007", manifest, {target});
  EXPECT_EQ(column, "be");
}

}  // namespace
}  // namespace farsight
