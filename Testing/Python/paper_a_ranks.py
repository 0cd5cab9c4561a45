"""The reader study of paper A as it was answered: facts to judge the analysis by.

Source: thesis "DeepIterReg", supplementary material, Table 3.1 (42 rows, one radiologist); the results it must give stand in the
paper's section 4.9 and Table 1. Patients are numbered here in the order in which they appear; MANUAL is "reference".
"""

ROWS = """\
1,two-stage,three-stage,4
1,two-stage,reference,1
1,three-stage,reference,1
2,three-stage,two-stage,3
2,reference,two-stage,3
2,reference,three-stage,4
3,reference,two-stage,4
3,three-stage,reference,2
3,two-stage,three-stage,3
4,two-stage,reference,2
4,three-stage,two-stage,5
4,reference,three-stage,2
5,three-stage,reference,2
5,two-stage,three-stage,3
5,reference,two-stage,4
6,reference,three-stage,4
6,two-stage,reference,2
6,three-stage,two-stage,3
7,two-stage,three-stage,4
7,reference,two-stage,2
7,three-stage,reference,3
8,reference,three-stage,4
8,three-stage,two-stage,3
8,two-stage,reference,4
9,three-stage,two-stage,1
9,reference,three-stage,2
9,two-stage,reference,5
10,two-stage,reference,1
10,reference,three-stage,5
10,three-stage,two-stage,3
11,reference,two-stage,1
11,three-stage,reference,3
11,two-stage,three-stage,3
12,three-stage,reference,1
12,two-stage,three-stage,3
12,reference,two-stage,5
13,two-stage,three-stage,3
13,three-stage,reference,1
13,reference,two-stage,5
14,reference,three-stage,4
14,two-stage,reference,3
14,three-stage,two-stage,3
"""

TABLE = "reader,patient,left,right,rank\n" + "".join(f"A,{row}\n" for row in ROWS.splitlines())
