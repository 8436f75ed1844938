// SPDX-License-Identifier: Apache-2.0
// A folder for the files of one test, removed at its end, and the real texts where they are present.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "data/corpus.h"
#include "data/text_corpus.h"
#include "kernels/error.h"

namespace farsight {

class Scratch {
 public:
  Scratch() {
    std::string name = (std::filesystem::temp_directory_path() / "farsight-data-XXXXXX").string();
    folder_ = mkdtemp(name.data());
  }
  ~Scratch() { std::filesystem::remove_all(folder_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  std::string path(const std::string& name) const { return folder_ + "/" + name; }
  const std::string& folder() const { return folder_; }

  std::string write(const std::string& name, const std::string& bytes) const {
    std::ofstream(path(name), std::ios::binary) << bytes;
    return path(name);
  }
  static std::string read(const std::string& path) {
    std::ostringstream text;
    text << std::ifstream(path, std::ios::binary).rdbuf();
    return text.str();
  }
  std::vector<std::string> names() const {
    std::vector<std::string> found;
    for (const auto& entry : std::filesystem::directory_iterator(folder_)) found.push_back(entry.path().filename());
    std::sort(found.begin(), found.end());
    return found;
  }

 private:
  std::string folder_;
};

inline std::string real_data(const std::string& name) {
  const char* folder = std::getenv("FARSIGHT_DATA");
  return std::string(folder != nullptr && *folder != '\0' ? folder : FARSIGHT_DEFAULT_DATA) + "/" + name;
}

#define FARSIGHT_NEEDS_REAL_DATA(name) \
  if (!std::filesystem::exists(real_data(name))) GTEST_SKIP() << "needs " << real_data(name) << " (FARSIGHT_DATA)"

// The interpreter of the user or that of the system; "" without h5py.
inline std::string python_with_h5py() {
  for (std::string python : {"python3", "/usr/bin/python3"}) {
    if (std::system((python + " -c 'import h5py' > /dev/null 2>&1").c_str()) == 0) return python;
  }
  return "";
}

inline TextReport make_corpus(const TextOptions& options) {
  return write_text_corpus(options, [](const TextProgress&) {});
}

// What the action throws: the message, empty when it throws nothing; the kind must be the given one.
template <typename Action>
std::string error_of(ErrorKind kind, Action action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(exit_code(error.kind()), exit_code(kind)) << error.what();
    return error.what();
  }
  return "";
}

#define EXPECT_CONTAINS(text, part) \
  EXPECT_NE(std::string(text).find(part), std::string::npos) << "in: " << (text) << "\nmissing: " << (part)

}  // namespace farsight
