// SPDX-License-Identifier: Apache-2.0
#include <iostream>
#include <string>
#include <vector>

#include "trainer/command_line.h"

int main(int argc, char** argv) { return farsight::run_program({argv + 1, argv + argc}, std::cout, std::cerr); }
